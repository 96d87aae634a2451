-- admit: approves tenants, or asks for their status to be told again.
--
-- ARGV  1 'approve' or 'resync', then per tenant two values: tenant, top
-- Returns the number of tenants whose status will be told by the next deposit.
--
-- Approving marks an absent tenant "<top>*" and leaves a present one as it is, so that a repeat
-- tells nothing twice; resync adds the '*' to a present one and leaves an absent one out.
-- Atomic: all tenants of the call.
local approve, n = ARGV[1] == 'approve', 0
for i = 2, #ARGV, 2 do
  local t, top = ARGV[i], ARGV[i + 1]
  local mark = redis.call('HGET', TENANTS, t)
  if approve then
    if not mark then
      redis.call('HSET', TENANTS, t, top .. '*')
      n = n + 1
    elseif string.sub(mark, -1) == '*' then
      n = n + 1
    end
  elseif mark then
    if string.sub(mark, -1) ~= '*' then redis.call('HSET', TENANTS, t, mark .. '*') end
    n = n + 1
  end
end
return n
