-- Clears a tenant's mark after a fan-out, unless a newer change was accepted meanwhile.
--
-- KEYS[1] HASH record of the tenant
-- ARGV[1] the sequence up to which the fan-out deposited
--
-- Returns 1 when no fan-out is pending any more, 0 when a newer change needs one.
--
-- Atomic: the comparison and the removal of the mark are one step.
if (redis.call('HGET', KEYS[1], 'top') or '0') ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 'owed')
return 1
