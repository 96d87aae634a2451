-- Removes an empty mail queue from the list of queues, unless a mail was added meanwhile.
--
-- KEYS[1] ZSET  "trays": recipient -> when the queue was last listed, ms
-- ARGV[1] recipient
-- ARGV[2] the time that was read
--
-- Returns 1 removed, 0 listed again meanwhile or not listed. Atomic: comparison and removal are one step.
local at = redis.call('ZSCORE', KEYS[1], ARGV[1])
if at and tonumber(at) == tonumber(ARGV[2]) then
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
