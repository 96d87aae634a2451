-- beat: the owner renews its lease.
--
-- ARGV  1 birth, 2 token, 3 owner lease ms
-- Returns 1 renewed, 0 not the owner.
-- Atomic: comparing the owner and renewing.
settle()
if redis.call('HGET', BOX, 'owner') ~= ARGV[2] then return 0 end
redis.call('HSET', BOX, 'oexp', int(now + tonumber(ARGV[3])))
return 1
