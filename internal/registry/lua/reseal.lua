-- Replaces a sealed value by the same secret sealed again.
--
-- KEYS[1] HASH client id -> sealed value
-- ARGV[1] client id
-- ARGV[2] the sealed value that was read
-- ARGV[3] the value that replaces it
--
-- Returns 1 when replaced, 0 when the stored value is another one by now.
--
-- Atomic: a secret rotated meanwhile is not overwritten.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
