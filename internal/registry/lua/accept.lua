-- Accepts one change of a tenant: its truth for the pull, the record for the push, and the mark
-- that a fan-out is owed.
--
-- KEYS[1] HASH record of the tenant
-- KEYS[2] SET  client ids of the apps that approved the tenant
-- KEYS[3] ZSET accepted changes by sequence
-- KEYS[4] STR  the answer to this idempotency key and line; absent when the caller gave none
-- ARGV[1] tenant
-- ARGV[2] change type, as a number
-- ARGV[3] slot of the change: status, move or restore
-- ARGV[4] state that the change puts the tenant in, empty when it alters none
-- ARGV[5] version name, preceded by "="; empty for the tenant's last known
-- ARGV[6] file version, likewise
-- ARGV[7] public endpoint, empty unless it moves
-- ARGV[8] when it occurred in ms, "0" when nobody said
-- ARGV[9] nonce of the call: the client library may send a call twice
-- ARGV[10] ms to keep the answer for a repeat
-- ARGV[11] ms to keep the change in the list
-- ARGV[12] how many changes to keep in the list
-- ARGV[13] "1" when the change empties the other slots (Delete)
--
-- Returns {0, "<sequence>;<apps>"} when accepted, {1, "<sequence>;<apps>"} when an earlier call
-- with the same idempotency key was. Error FORMAT: what is stored is of another version; nothing
-- is written.
--
-- Atomic: answer, sequence, status, record, list and mark are one step, so push and pull agree.
-- A repeat writes what is there already, so that a WAIT behind it covers the first call's write too.
-- The sequence is max(previous + 1, Redis's time in ms): it never goes back.
if KEYS[4] then
  local answer = redis.pcall('GET', KEYS[4])
  if type(answer) == 'table' then
    return redis.error_reply('FORMAT the stored answer is of another type')
  end
  if answer then
    redis.call('APPEND', KEYS[4], '')
    return {1, answer}
  end
end

local r = redis.pcall('HMGET', KEYS[1], 'v', 'top', 'state', 'version', 'file', 'call')
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
if r[6] then
  local nonce, answer = string.match(r[6], '^([^;]*);(.*)$')
  if nonce == ARGV[9] then
    redis.call('HSET', KEYS[1], 'v', '1')
    return {0, answer}
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
local answer = sequence .. ';' .. string.format('%.0f', apps)
redis.call('HSET', KEYS[1], 'v', '1', 'top', sequence, 'state', state, 'version', version, 'file', file,
  'updated', stamp, 'owed', '1', 'call', ARGV[9] .. ';' .. answer, ARGV[3], sequence .. ';' .. change)
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
if KEYS[4] then
  redis.call('SET', KEYS[4], answer, 'PX', ARGV[10])
end
return {0, answer}
