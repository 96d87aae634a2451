-- beat: the owner renews its lease.
--
-- ARGV  1 token, 2 owner lease ms
-- Returns 1 renewed, 0 not the owner.
-- Atomic: comparing the owner and renewing.
settle()
if redis.call('HGET', BOX, 'owner') ~= ARGV[1] then return 0 end
redis.call('HSET', BOX, 'oexp', int(now + tonumber(ARGV[2])))
return 1
