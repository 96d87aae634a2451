-- deposit: puts snapshots of tenants' records into an app's mailbox.
--
-- ARGV  1 birth, 2 nonce (names this call; a repeat gets the same answer), 3 horizon ms, 4 grace ms, then per tenant
--       eight values: tenant, top, and for status, move, restore: sequence (0 none, -1 deposited only on request)
--       and change. A status that was set without a change is a second line of the first change; on request it is
--       deposited instead of the change. An empty second line cannot be deposited: then only a new change is
-- Returns {generation, in ms}: the wake-up to enqueue, '0','0' for none; then the number of entries
--       written and the number of pending entries they replaced.
-- Atomic: all tenants of the call and the wake-up. What many tenants need is read, and written, by one
-- call; nothing is written if one of them is refused.
local b = redis.call('HMGET', BOX, 'version', 'format', 'birth')
local refused = guard(b[2], b[3])
if refused then return refused end
local nonce, horizon, grace = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local written, replaced, instant = 0, 0, int(now)
-- not below the clock: an attempt with a version that Redis lost with its last writes may still bring a result
local version = math.max(num(b[1]), now * 1000)

local all = {}
for i = 5, #ARGV, 8 do all[#all + 1] = ARGV[i] end
local marks = #all > 0 and redis.call('HMGET', TENANTS, unpack(all)) or {}

-- news are the tenants whose record is newer than what was deposited. If a tenant is named more than once, its
-- newest record is used, which includes the others
local news, args, known, again, at = {}, {}, {}, {}, {}
for n, t in ipairs(all) do
  if marks[n] then
    local star = string.sub(marks[n], -1) == '*'
    local k = tonumber(star and string.sub(marks[n], 1, -2) or marks[n])
    if k == nil then return redis.error_reply('FORMAT tenant ' .. t .. ' has an unreadable mark') end
    local i, top = 8 * n - 3, tonumber(ARGV[8 * n - 2])
    if at[t] then
      if top > tonumber(ARGV[args[at[t]] + 1]) then args[at[t]] = i end
    elseif top > k or (top == k and star) then
      local m = #news + 1
      news[m], args[m], known[m], again[m], at[t] = t, i, k, star, m
    end
  end
end

local have = entriesOf(news)
local flight, due = {}, {}
if #news > 0 then
  flight = redis.call('ZMSCORE', FLIGHT, unpack(news))
  due = redis.call('ZMSCORE', DUE, unpack(news))
end
local set, removed, tops, pulled, emptied = {}, {}, {}, {}, {}
for n, t in ipairs(news) do
  local i, wrote = args[n], false
  for s = 1, 3 do
    local old, seq, change = have[n][s], ARGV[i + 2 * s], ARGV[i + 2 * s + 1]
    local asked = s == 1 and again[n]
    local line = s == 1 and string.find(change, '\n', 1, true)
    if line then
      local status = string.sub(change, line + 1)
      change = string.sub(change, 1, line - 1)
      if status == '' then
        asked = false
      elseif asked then
        seq, change = '-1', status
      end
    end
    if seq == '0' then
      if old then
        removed[#removed + 1] = t .. '|' .. SLOTS[s]
        have[n][s] = false
      end
    elseif tonumber(seq) > known[n] or asked then
      if tonumber(seq) <= known[n] then
        seq, change = ARGV[i + 1], 'r' .. nonce .. ';' .. change
      end
      version = version + 1
      local superseded, since = '0', instant
      if old then
        local count, at = string.match(old, '^[^;]*;[^;]*;[^;]*;(%d+);(%d+);')
        superseded, since = int(num(count) + 1), at or since
        replaced = replaced + 1
      end
      have[n][s] = seq .. ';' .. int(version) .. ';0;' .. superseded .. ';' .. since .. ';' .. change
      set[#set + 1], set[#set + 2] = t .. '|' .. SLOTS[s], have[n][s]
      written = written + 1
      wrote = true
    end
  end
  tops[#tops + 1], tops[#tops + 2] = t, ARGV[i + 1]
  if vacant(have[n]) then
    if due[n] then emptied[#emptied + 1] = t end
  elseif wrote and not flight[n] and (not due[n] or tonumber(due[n]) > now) then
    pulled[#pulled + 1], pulled[#pulled + 2] = instant, t
  end
end
if #removed > 0 then redis.call('HDEL', WAITING, unpack(removed)) end
if #set > 0 then redis.call('HSET', WAITING, unpack(set)) end
if #tops > 0 then redis.call('HSET', TENANTS, unpack(tops)) end
if #emptied > 0 then redis.call('ZREM', DUE, unpack(emptied)) end
if #pulled > 0 then redis.call('ZADD', DUE, unpack(pulled)) end

if written > 0 then redis.call('HSET', BOX, 'version', int(version), 'format', '1') end
if replaced > 0 then redis.call('HINCRBY', BOX, 'superseded', replaced) end
local gen, delay = wake(nonce, horizon, grace)
return {gen, delay, written, replaced}
