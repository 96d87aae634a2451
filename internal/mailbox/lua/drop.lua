-- drop: the app was deleted.
--
-- ARGV  1 flight's life s, 2 mailbox's life s, 3 revision of the deletion, 0 for whatever there is
-- Returns the number of approvals removed; -1 when the app is back since that revision: nothing done.
-- Atomic. What is in flight, and the counters, outlive the app for a while: a late result must
-- find its stamp, and an app created again must not repeat generations or versions.
local revision = tonumber(ARGV[3])
if revision > 0 and num(redis.call('HGET', BOX, 'srev')) > revision then return -1 end
local n = redis.call('HLEN', TENANTS)
redis.call('DEL', TENANTS, WAITING, DUE)
if n > 0 then redis.call('HINCRBY', BOX, 'dismissals', 1) end
redis.call('EXPIRE', FLIGHT, ARGV[1])
redis.call('EXPIRE', BOX, ARGV[2])
return n
