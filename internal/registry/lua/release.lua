-- Releases a lease.
--
-- KEYS[1] STR the holder
-- ARGV[1] the caller
--
-- Returns 1 when it was the caller's, 0 when it was not.
--
-- Atomic: the lease of another holder is never removed.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
