-- Sets when a job is due next, or removes a job that does not exist.
--
-- KEYS[1] ZSET jobs: job -> when it was listed, µs
-- KEYS[2] ZSET jobs_due: job that runs -> when it is due, ms
-- ARGV[1] job
-- ARGV[2] in how many ms
-- ARGV[3] µs: a job that does not exist is removed when it has been listed for that long; '' for one that exists
--
-- Returns 1 if it is still listed as running, else 0.
--
-- Atomic: reading and writing. It writes although Redis is full.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
redis.call('ZREM', KEYS[2], '')
if ARGV[3] ~= '' then
  local listed = redis.call('ZSCORE', KEYS[1], ARGV[1])
  if not listed or now - tonumber(listed) > tonumber(ARGV[3]) then
    redis.call('ZREM', KEYS[1], ARGV[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
    return 0
  end
end
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[2], string.format('%.0f', math.floor(now / 1000) + tonumber(ARGV[2])), ARGV[1])
return 1
