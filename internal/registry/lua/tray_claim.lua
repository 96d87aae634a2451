-- Claims a recipient's mail queue, so that no two senders send to one recipient at once.
--
-- KEYS[1] HASH  mail queue, see tray_put.lua
-- ARGV[1] by: names this claim; a repeat of the call with the same name gets the same answer
-- ARGV[2] lease, ms
--
-- Returns {code, ms}: 1 claimed (ms: end of the lease), 0 the queue is empty, 3 claimed by another (ms: end of
-- that lease), 4 not due yet (ms: when). The holder of the claim reads the queue in pages. Error FORMAT: the
-- queue is of another version and stays unchanged.
--
-- Atomic: reading and claiming are one step.
local f = redis.call('HMGET', KEYS[1], 'v', 'count', 'due', 'lease', 'by')
if not f[1] then
  return {0, 0}
end
if f[1] ~= '1' then
  return redis.error_reply('FORMAT the mail queue is not of format 1')
end
if tonumber(f[2] or '0') == 0 then
  return {0, 0}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due, lease = tonumber(f[3] or '0'), tonumber(f[4] or '0')
if lease > now then
  return {f[5] == ARGV[1] and 1 or 3, lease}
end
if due > now then
  return {4, due}
end
lease = now + ARGV[2]
redis.call('HSET', KEYS[1], 'lease', string.format('%.0f', lease), 'by', ARGV[1])
return {1, lease}
