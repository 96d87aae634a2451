-- Accepts one change of a tenant: its status for the pull, its record for the push, and the mark of a pending
-- fan-out.
--
-- KEYS[1] HASH record of the tenant
-- KEYS[2] SET  client ids of the apps that approved the tenant
-- KEYS[3] ZSET accepted changes by sequence
-- KEYS[4] STR  the answer to this idempotency key and line, or to the key that the server gave a change
-- KEYS[4] STR  the answer to this idempotency key and line, or to the key that the server assigns to a change
-- ARGV[1] tenant
-- ARGV[2] change type, as a number
-- ARGV[3] slot of the change: status, move or restore
-- ARGV[4] state that the change puts the tenant in, empty if it alters none
-- ARGV[5] version name, preceded by "="; empty for the tenant's last known
-- ARGV[6] file version, likewise
-- ARGV[7] public endpoint, empty unless it moves
-- ARGV[8] when it occurred in ms, "0" if unknown
-- ARGV[9] the source's sequence of the change for the tenant, 1 to 2^53-1; "0" if the source has none
-- ARGV[10] ms to keep the answer for a repeat
-- ARGV[11] ms to keep the change in the list
-- ARGV[12] how many changes to keep in the list
-- ARGV[13] "1" when the change empties the other slots (Delete)
--
-- Returns {0, "<sequence>;<apps>"} when accepted, {1, "<sequence>;<apps>"} when an earlier call with the same
-- key was, {2, "<highest>"} when the source's sequence is not higher than that of an accepted change. Error
-- FORMAT: a stored value is of another version; nothing is written.
--
-- Atomic: answer, sequence, status, record, list and mark are one step, so push and pull agree. A repeat and a
-- refusal write the stored values again, so that a WAIT behind them also covers the write on which their answer
-- depends. The sequence is max(previous + 1, Redis's time in ms): it never goes back.
--
-- The client library repeats a call whose answer it did not get, and an older change must not be accepted again
-- behind a newer one. KEYS[4] identifies such a repeat. Versions that do not know the field "source" identify
-- it by the field "call", which holds a nonce of their last call. That field must stay as they left it while
-- one of them runs; nothing else reads it.
local answer = redis.pcall('GET', KEYS[4])
if type(answer) == 'table' then
  return redis.error_reply('FORMAT the stored answer is of another type')
end
if answer then
  redis.call('APPEND', KEYS[4], '')
  return {1, answer}
end

local r = redis.pcall('HMGET', KEYS[1], 'v', 'top', 'state', 'version', 'file', 'source')
if r.err then
  return redis.error_reply('FORMAT the stored record is of another type')
end
if r[1] ~= '1' and (r[1] or r[2] or r[3]) then
  return redis.error_reply('FORMAT the stored record is not of format 1')
end
local top = r[2] or '0'
if not string.match(top, '^%d+$') then
  return redis.error_reply('FORMAT the stored sequence is not a number')
end
if r[6] and ARGV[9] ~= '0' then
  local last = string.match(r[6], '^%d+$') and tonumber(r[6])
  if not last or last >= 2 ^ 53 then
    return redis.error_reply('FORMAT the stored source sequence is not one')
  end
  if tonumber(ARGV[9]) <= last then
    redis.call('HSET', KEYS[1], 'v', '1')
    return {2, r[6]}
  end
end
local apps = redis.pcall('SCARD', KEYS[2])
if type(apps) ~= 'number' then
  return redis.error_reply('FORMAT the stored approvals are of another type')
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local sequence = string.format('%.0f', math.max(tonumber(top) + 1, now))
local stamp = string.format('%.0f', now)

local version, file = r[4] or '', r[5] or ''
if ARGV[5] ~= '' then version = string.sub(ARGV[5], 2) end
if ARGV[6] ~= '' then file = string.sub(ARGV[6], 2) end
local change = '{"v":1,"i":"chg_' .. ARGV[1] .. '_' .. sequence .. '","t":' .. ARGV[2]
if version ~= '' then change = change .. ',"n":' .. cjson.encode(version) end
if file ~= '' then change = change .. ',"f":' .. cjson.encode(file) end
if ARGV[7] ~= '' then change = change .. ',"e":' .. cjson.encode(ARGV[7]) end
if ARGV[8] ~= '0' then change = change .. ',"o":' .. ARGV[8] end
change = change .. ',"a":' .. stamp .. '}'

local state = ARGV[4]
if state == '' then state = r[3] or 'Running' end
answer = sequence .. ';' .. string.format('%.0f', apps)
redis.call('HSET', KEYS[1], 'v', '1', 'top', sequence, 'state', state, 'version', version, 'file', file,
  'updated', stamp, 'owed', '1', ARGV[3], sequence .. ';' .. change)
if ARGV[9] ~= '0' then
  redis.call('HSET', KEYS[1], 'source', ARGV[9])
end
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[1], 'endpoint', ARGV[7])
end
if ARGV[13] == '1' then
  redis.call('HDEL', KEYS[1], 'move', 'restore')
end
if redis.call('ZADD', KEYS[3], sequence, change) == 1 then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. string.format('%.0f', now - tonumber(ARGV[11])))
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -(tonumber(ARGV[12]) + 1))
  redis.call('PEXPIRE', KEYS[3], ARGV[11])
end
redis.call('SET', KEYS[4], answer, 'PX', ARGV[10])
return {0, answer}
