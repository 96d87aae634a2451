-- Gives a tenant a new, higher sequence under which its state is deposited again: an app knows a sequence above
-- the record's, because Redis lost the record's last writes.
--
-- KEYS[1] HASH record of the tenant
-- KEYS[2] ZSET accepted changes by sequence
-- ARGV[1] tenant
-- ARGV[2] the sequence that an app knows
-- ARGV[3] ms to keep the change in the list
-- ARGV[4] how many changes to keep in the list
-- ARGV[5..11] the values of v, state, endpoint, version, file, updated, top that the caller read, empty
--         if there was none
-- ARGV[12..] per newest change, in the order of their sequences: slot, and the change without its id
--
-- Returns the new top; 0 when the record differs from what was read, is no longer below what the app knows, or
-- does not exist: then nothing is written. Error FORMAT: a stored value is of another type.
--
-- Atomic: sequences, newest changes, list and mark are one step. A sequence never goes back: the first new one
-- is max(known + 1, top + 1, Redis's time in ms). State and time of the status stay.
local r = redis.pcall('HMGET', KEYS[1], 'v', 'state', 'endpoint', 'version', 'file', 'updated', 'top')
if r.err then
  return redis.error_reply('FORMAT the stored record is of another type')
end
for i = 1, 7 do
  if (r[i] or '') ~= ARGV[i + 4] then return 0 end
end
local top, known = tonumber(r[7] or '0'), tonumber(ARGV[2])
if not top then
  return redis.error_reply('FORMAT the stored sequence is not a number')
end
if not r[2] or top >= known then return 0 end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local sequence = math.max(known + 1, now)
local fields = {'v', '1', 'owed', '1'}
local listed = {}
for i = 12, #ARGV, 2 do
  local text = string.format('%.0f', sequence)
  local change = '{"v":1,"i":"chg_' .. ARGV[1] .. '_' .. text .. '"' .. ARGV[i + 1]
  fields[#fields + 1], fields[#fields + 2] = ARGV[i], text .. ';' .. change
  listed[#listed + 1], listed[#listed + 2] = text, change
  if i + 2 <= #ARGV then sequence = sequence + 1 end
end
local last = string.format('%.0f', sequence)
fields[#fields + 1], fields[#fields + 2] = 'top', last
redis.call('HSET', KEYS[1], unpack(fields))
if #listed > 0 then
  redis.call('ZADD', KEYS[2], unpack(listed))
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -(tonumber(ARGV[4]) + 1))
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return last
