-- Takes or renews a lease.
--
-- KEYS[1] STR the holder
-- ARGV[1] the caller
-- ARGV[2] ms for which the lease is taken
--
-- Returns 1 when the caller holds the lease now, 0 when another does.
--
-- Atomic: a lease has one holder at a time.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
-- After a first write that needs no memory the script runs to its end although Redis is at maxmemory: the sweep
-- wakes what frees memory, and must not wait for it.
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
