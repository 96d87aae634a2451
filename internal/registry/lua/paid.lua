-- Strikes tenants off the list of those owed a fan-out, unless they got a newer ticket.
--
-- KEYS[1] ZSET tenant -> ticket
-- ARGV[1..] tenant, the ticket read before its record; repeated
--
-- Returns how many were struck off.
--
-- Atomic: no ticket given meanwhile is lost.
local struck = 0
for i = 1, #ARGV, 2 do
  local ticket = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if ticket and tonumber(ticket) == tonumber(ARGV[i + 1]) then
    struck = struck + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return struck
