-- drop: the app was deleted.
--
-- ARGV  1 flight's life s, 2 mailbox's life s
-- Returns the number of approvals removed.
-- Atomic. What is in flight, and the counters, outlive the app for a while: a late result must
-- find its stamp, and an app created again must not repeat generations or versions.
local n = redis.call('HLEN', TENANTS)
redis.call('DEL', TENANTS, WAITING, DUE)
redis.call('EXPIRE', FLIGHT, ARGV[1])
redis.call('EXPIRE', BOX, ARGV[2])
return n
