-- dismiss: takes approvals back and removes what waits for them.
--
-- ARGV  1 birth, then tenants
-- Returns the number of approvals removed. What is in flight stays so until its result or its lease's end.
-- Atomic: all tenants of the call, and counting that approvals were taken back: see admit.
local n = 0
for i = 2, #ARGV do
  local t = ARGV[i]
  n = n + redis.call('HDEL', TENANTS, t)
  redis.call('HDEL', WAITING, t .. '|status', t .. '|move', t .. '|restore')
  redis.call('ZREM', DUE, t)
end
if n > 0 then raise('dismissals') end
return n
