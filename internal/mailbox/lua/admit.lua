-- admit: approves tenants, or asks for their status to be told again.
--
-- ARGV  1 'approve' or 'resync', then per tenant two values: tenant, top
-- Returns the number of tenants whose status will be told by the next deposit.
--
-- Approving marks an absent tenant "<top>*" and leaves a present one as it is, so that a repeat
-- tells nothing twice; resync adds the '*' to a present one and leaves an absent one out.
-- A mailbox that was set to expire (its app was deleted and is back) stays once it has an approval.
-- Atomic: all tenants of the call.
local approve, n, fresh = ARGV[1] == 'approve', 0, false
for i = 2, #ARGV, 2 do
  local t, top = ARGV[i], ARGV[i + 1]
  local mark = redis.call('HGET', TENANTS, t)
  if approve then
    if not mark then
      redis.call('HSET', TENANTS, t, top .. '*')
      n, fresh = n + 1, true
    elseif string.sub(mark, -1) == '*' then
      n = n + 1
    end
  elseif mark then
    if string.sub(mark, -1) ~= '*' then redis.call('HSET', TENANTS, t, mark .. '*') end
    n = n + 1
  end
end
if fresh then
  redis.call('PERSIST', BOX)
  redis.call('PERSIST', FLIGHT)
end
return n
