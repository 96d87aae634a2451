-- Takes the jobs that are due, those first that have waited longest.
--
-- KEYS[1] ZSET jobs_due: job that runs -> when it is due, ms
-- ARGV[1] how many at most
-- ARGV[2] ms until the jobs are due again, unless the caller changes that before
--
-- Returns the jobs.
--
-- Atomic: each job goes to one of several workers. It writes although Redis is full.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
if #ids > 0 then redis.call('ZREM', KEYS[1], '') end
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', now + tonumber(ARGV[2])), id)
end
return ids
