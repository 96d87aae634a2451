-- Takes the jobs that somebody should look after now, those first that wait longest.
--
-- KEYS[1] ZSET jobs_due: job that runs -> when somebody should look after it, ms
-- ARGV[1] how many at most
-- ARGV[2] ms until the next one looks after them, unless the caller says otherwise before
--
-- Returns the jobs.
--
-- Atomic: of several workers one gets each. It writes although Redis is full.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
if #ids > 0 then redis.call('ZREM', KEYS[1], '') end
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', now + tonumber(ARGV[2])), id)
end
return ids
