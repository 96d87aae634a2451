-- beat: the owner renews its lease.
--
-- ARGV  1 birth, 2 token, 3 owner lease ms
-- Returns 1 renewed, 0 not the owner.
-- Atomic: comparing the owner and renewing.
local b = redis.call('HMGET', BOX, 'owner', 'format', 'birth')
local refused = guard(b[2], b[3])
if refused then return refused end
settle()
if b[1] ~= ARGV[2] then return 0 end
redis.call('HSET', BOX, 'oexp', int(now + tonumber(ARGV[3])))
return 1
