-- admit: approves tenants, or asks for their status to be told again.
--
-- ARGV  1 birth, 2 'approve', 'first' (approve where nobody did yet) or 'resync', 3 dismissals counted before
--       the tops were read ('' for resync), then per tenant two values: tenant, top
-- Returns the number of tenants whose status will be told by the next deposit; -1 when an approval was
--       taken back since the count, so that a top may be older than what the former approval told:
--       nothing was admitted, read the tops again; -2 when 'first' finds an approval: nothing was admitted.
--
-- Approving marks an absent tenant "<top>*" and leaves a present one as it is, so that a repeat
-- tells nothing twice; resync adds the '*' to a present one and leaves an absent one out.
-- A mailbox that was set to expire (its app was deleted and is back) stays once it has an approval.
-- Atomic: all tenants of the call.
local first = ARGV[2] == 'first'
local approve, n, absent = first or ARGV[2] == 'approve', 0, {}
for i = 4, #ARGV, 2 do
  local t = ARGV[i]
  local mark = redis.call('HGET', TENANTS, t)
  if first and mark then return -2 end
  if approve then
    if not mark then
      absent[#absent + 1], absent[#absent + 2] = t, ARGV[i + 1] .. '*'
      n = n + 1
    elseif string.sub(mark, -1) == '*' then
      n = n + 1
    end
  elseif mark then
    if string.sub(mark, -1) ~= '*' then redis.call('HSET', TENANTS, t, mark .. '*') end
    n = n + 1
  end
end
if #absent > 0 then
  if (redis.call('HGET', BOX, 'dismissals') or '0') ~= ARGV[3] then return -1 end
  redis.call('HSET', TENANTS, unpack(absent))
  redis.call('HDEL', BOX, 'ended')
  redis.call('PERSIST', BOX)
  redis.call('PERSIST', FLIGHT)
end
return n
