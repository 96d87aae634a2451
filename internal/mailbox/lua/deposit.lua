-- deposit: puts snapshots of tenants' records into an app's mailbox.
--
-- ARGV  1 nonce (names this call; a repeat is answered alike), 2 horizon ms, 3 grace ms, then per tenant eight values:
--       tenant, top, and for status, move, restore: sequence (0 none, -1 told only on request) and change
-- Returns {generation, in ms}: the wake-up to enqueue, '0','0' for none; then the number of entries
--       written and the number of waiting entries they replaced.
-- Atomic: all tenants of the call and the wake-up.
local nonce, horizon, grace = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local written, replaced = 0, 0
local version = num(redis.call('HGET', BOX, 'version'))

for i = 4, #ARGV, 8 do
  local t, top = ARGV[i], tonumber(ARGV[i + 1])
  local mark = redis.call('HGET', TENANTS, t)
  if mark then
    local again = string.sub(mark, -1) == '*'
    local known = tonumber(again and string.sub(mark, 1, -2) or mark)
    if known == nil then return redis.error_reply('FORMAT tenant ' .. t .. ' has an unreadable mark') end
    if top > known or (top == known and again) then
      local have = entries(t)
      local wrote = false
      for s = 1, 3 do
        local field = t .. '|' .. SLOTS[s]
        local seq, change = tonumber(ARGV[i + 2 * s]), ARGV[i + 2 * s + 1]
        if seq == 0 then
          if have[s] then
            redis.call('HDEL', WAITING, field)
            have[s] = false
          end
        elseif seq > known or (again and s == 1) then
          if seq <= known then
            seq, change = top, 'r' .. nonce .. ';' .. change
          end
          version = version + 1
          local superseded, since = 0, int(now)
          if have[s] then
            local old, at = string.match(have[s], '^[^;]*;[^;]*;[^;]*;(%d+);(%d+);')
            superseded, since = num(old) + 1, at or since
            replaced = replaced + 1
          end
          have[s] = int(seq) .. ';' .. int(version) .. ';0;' .. int(superseded) .. ';' .. since .. ';' .. change
          redis.call('HSET', WAITING, field, have[s])
          written = written + 1
          wrote = true
        end
      end
      redis.call('HSET', TENANTS, t, int(top))
      if vacant(have) then
        redis.call('ZREM', DUE, t)
      elseif wrote and not redis.call('ZSCORE', FLIGHT, t) then
        local at = redis.call('ZSCORE', DUE, t)
        if not at or tonumber(at) > now then redis.call('ZADD', DUE, int(now), t) end
      end
    end
  end
end

if written > 0 then redis.call('HSET', BOX, 'version', int(version), 'format', '1') end
if replaced > 0 then redis.call('HINCRBY', BOX, 'superseded', replaced) end
local gen, delay = wake(nonce, horizon, grace)
return {gen, delay, written, replaced}
