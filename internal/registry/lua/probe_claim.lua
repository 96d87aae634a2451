-- Claims an endpoint for one probe.
--
-- KEYS[1] HASH  probes: endpoint -> "1;<due ms>;<end of the claim, ms>;<stamp>;<state>"
-- ARGV[1] endpoint
-- ARGV[2] the claim's stamp
-- ARGV[3] ms for which it is claimed
-- ARGV[4] "1" to claim it although it is not due or claimed by another
-- ARGV[5] ms by which the caller's clock may be ahead
--
-- Returns {1, due ms, state} when claimed, also by an earlier run with the same stamp; {0, due ms, state} when
-- it is not due or claimed by another. State is empty when there is none. Error FORMAT: the stored value is of
-- another version and stays as it is.
--
-- Atomic: of several tasks for one endpoint only one probes it.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local due, lease, stamp, state = '0', '0', '', ''
if stored then
  due, lease, stamp, state = string.match(stored, '^1;(%d+);(%d+);([^;]*);(.*)$')
  if not due then
    return redis.error_reply('FORMAT the stored probe is not of format 1')
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[4] ~= '1' and stamp ~= ARGV[2] and (tonumber(lease) > now or tonumber(due) > now + ARGV[5]) then
  return {0, tonumber(due), state}
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('1;%s;%.0f;%s;%s', due, now + ARGV[3], ARGV[2], state))
return {1, tonumber(due), state}
