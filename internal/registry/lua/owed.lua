-- Lists the tenants that have waited longest for a fan-out, or the approvals that have for settling.
--
-- KEYS[1] ZSET tenant, or approval -> ticket
-- ARGV[1] how long they must have waited, in microseconds
-- ARGV[2] how many at most
-- ARGV[3] how many of the oldest to leave out
--
-- Returns a flat list of tenant, ticket; oldest first.
--
-- Atomic: one read at Redis's own time. Writes nothing.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local before = string.format('%.0f', now - tonumber(ARGV[1]))
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'WITHSCORES', 'LIMIT', ARGV[3], ARGV[2])
