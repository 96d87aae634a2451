-- Puts attempts at the front of an app's list of recent deliveries.
--
-- KEYS[1] LIST attempts, newest first
-- ARGV[1] how many to keep
-- ARGV[2] ms to keep the list after its last attempt
-- ARGV[3..] attempts, oldest first, 500 at most
--
-- Returns how many the list holds.
--
-- Atomic: the list is never longer than ARGV[1].
redis.call('LPUSH', KEYS[1], unpack(ARGV, 3))
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[1]) - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('LLEN', KEYS[1])
