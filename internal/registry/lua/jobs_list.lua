-- Lists jobs as running, before they are made. A listed job is handled until it has ended.
--
-- KEYS[1] ZSET jobs: job -> when it was listed, in microseconds of Redis's clock, or one more than the previous
-- one
-- KEYS[2] ZSET jobs_due: job that runs -> when it is due, ms
-- ARGV[1] µs after which an ended job is removed
-- ARGV[2] how many are remembered, beside those that run
-- ARGV[3] how many old ones to examine
-- ARGV[4..] jobs
--
-- Returns the number of those that were not listed before.
--
-- Atomic: both lists. A job that is listed already is due at once, or keeps an earlier due time. The first
-- write needs no memory, so that jobs that free memory are listed although Redis is full.
redis.call('ZREM', KEYS[2], '')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local at = math.max(now, newest[2] and tonumber(newest[2]) + 1 or 0)
local new = 0
for i = 4, #ARGV do
  if not redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[i])
    at, new = at + 1, new + 1
  end
  local due = redis.call('ZSCORE', KEYS[2], ARGV[i])
  if not due or tonumber(due) * 1000 > now then
    redis.call('ZADD', KEYS[2], string.format('%.0f', math.floor(now / 1000)), ARGV[i])
  end
end
local many = redis.call('ZCARD', KEYS[1]) > tonumber(ARGV[2])
local before = many and '+inf' or string.format('%.0f', now - tonumber(ARGV[1]))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', 0, ARGV[3])) do
  if not redis.call('ZSCORE', KEYS[2], id) then redis.call('ZREM', KEYS[1], id) end
end
return new
