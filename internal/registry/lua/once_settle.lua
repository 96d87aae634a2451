-- Ends a run under an idempotency key.
--
-- KEYS[1] HASH the key, as in once_begin.lua
-- KEYS[2] ZSET the caller's keys by their expiry in ms
-- ARGV[1] nonce of the run
-- ARGV[2] its sealed outcome, empty to remove the key: the request may be sent again
-- ARGV[3] this key's member in KEYS[2]
--
-- Returns 1 when it is written, 0 when the run has no claim on the key, or has lost it.
--
-- Atomic: a run whose claim was taken over changes nothing. The expiry of the key does not change.
if redis.call('HGET', KEYS[1], 'c') ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('UNLINK', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[3])
else
  redis.call('HSET', KEYS[1], 'o', ARGV[2])
end
return 1
