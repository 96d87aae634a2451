-- exchange: settles finished posts, then claims more.
--
-- ARGV  1 token, 2 want, 3 owner lease ms, 4 entry lease ms, then per result eight values:
--       tenant, slot, version, stamp it was claimed with, kind ('o' ok, 'f' failed, 'w' failed although the
--       endpoint is well, 'r' release), delay ms, step (1 climbs the retry schedule), reason number
-- Returns {'lost'}: not the owner; the results were applied as far as anyone may
--       | {'off' or 'mine', stamp, tenant, slot, entry, tenant, slot, entry ...}
-- Atomic: all results and all claims.
--
-- Results come first: they free memory, and must work when Redis has none left. A delivery is a
-- fact whoever reports it; all else needs the claim's own stamp, and ownership to make anything due.
-- An owner's 'o' or 'w' proves the endpoint: its gate is forgotten, whatever becomes of the entry.
settle()
local token, want = ARGV[1], tonumber(ARGV[2])
local mine = redis.call('HGET', BOX, 'owner') == token
local well = false

for i = 5, #ARGV, 8 do
  local t, slot, ver, stamp, kind = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
  local have = entries(t)
  local s = slot == 'status' and 1 or slot == 'move' and 2 or 3
  local e = have[s]
  local same = e and string.match(e, '^[^;]*;(%d+);') == ver
  if kind == 'o' or kind == 'w' then well = true end
  if kind == 'o' and same then
    redis.call('HDEL', WAITING, t .. '|' .. slot)
    have[s] = false
    if vacant(have) then redis.call('ZREM', DUE, t) end
  end
  if num(redis.call('ZSCORE', FLIGHT, t)) == stamp then
    if vacant(have) then
      redis.call('ZREM', FLIGHT, t)
    elseif mine then
      redis.call('ZREM', FLIGHT, t)
      local at = now
      if (kind == 'f' or kind == 'w') and same then
        local seq, meta, rest = string.match(e, '^([^;]*);%d+;([^;]*);(.*)$')
        local attempts, steps = string.match(meta, '^(%d+)/(%d+)')
        attempts = num(attempts or meta) + 1
        steps = num(steps) + tonumber(ARGV[i + 6])
        redis.call('HSET', WAITING, t .. '|' .. slot,
          seq .. ';' .. ver .. ';' .. int(attempts) .. '/' .. int(steps) .. '/' .. ARGV[i + 7] .. '/' .. int(now) .. ';' .. rest)
        at = now + tonumber(ARGV[i + 5])
      end
      redis.call('ZADD', DUE, int(at), t)
    end
  end
end

if not mine then return {'lost'} end
redis.call('HSET', BOX, 'oexp', int(now + tonumber(ARGV[3])))
if well then
  redis.call('HDEL', BOX, 'gate', 'gopen')
  if redis.call('EXISTS', WAITING) == 0 then redis.call('HDEL', BOX, 'superseded') end
end
local b = redis.call('HMGET', BOX, 'off', 'stamp')
if b[1] then return {'off', '0'} end

local expired = redis.call('ZRANGEBYSCORE', FLIGHT, '-inf', int(now), 'LIMIT', 0, 200)
for _, t in ipairs(expired) do
  redis.call('ZREM', FLIGHT, t)
  if not vacant(entries(t)) then redis.call('ZADD', DUE, int(now), t) end
end

local stamp = math.max(now + tonumber(ARGV[4]), num(b[2]) + 1)
local out = {'mine', int(stamp)}
if want <= 0 then return out end
local claimed, flight = redis.call('ZRANGEBYSCORE', DUE, '-inf', int(now), 'LIMIT', 0, want), {}
for _, t in ipairs(claimed) do
  local have, best, lowest = entries(t), nil, nil
  for s = 1, 3 do
    if have[s] then
      local seq = num(string.match(have[s], '^([^;]*);'))
      if not best or seq < lowest then best, lowest = s, seq end
    end
  end
  if best then
    flight[#flight + 1], flight[#flight + 2] = int(stamp), t
    out[#out + 1], out[#out + 2], out[#out + 3] = t, SLOTS[best], have[best]
  end
end
if #claimed > 0 then
  redis.call('HSET', BOX, 'stamp', int(stamp))
  redis.call('ZREM', DUE, unpack(claimed))
end
if #flight > 0 then redis.call('ZADD', FLIGHT, unpack(flight)) end
return out
