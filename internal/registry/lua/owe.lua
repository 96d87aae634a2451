-- Adds tenants to the list of pending fan-outs.
--
-- KEYS[1] ZSET tenant -> ticket
-- KEYS[2] STR  the last ticket
-- ARGV[1..] tenants, 500 at most
--
-- Returns the ticket they got. A ticket is Redis's time in microseconds, or one more than the last: it grows,
-- and shows how long a tenant has waited.
--
-- Atomic: the ticket is new when the tenants get it.
local time = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
local ticket = string.format('%.0f', math.max(last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2])))
local pairs = {}
for i = 1, #ARGV do
  pairs[2 * i - 1] = ticket
  pairs[2 * i] = ARGV[i]
end
redis.call('SET', KEYS[2], ticket)
redis.call('ZADD', KEYS[1], unpack(pairs))
return ticket
