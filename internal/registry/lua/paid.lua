-- Removes tenants from the list of pending fan-outs, unless they got a newer ticket.
--
-- KEYS[1] ZSET tenant -> ticket
-- ARGV[1..] tenant, the ticket read before its record; repeated, 500 at most
--
-- Returns how many were removed.
--
-- Atomic: no ticket given meanwhile is lost.
local listed, done = {}, {}
for i = 1, #ARGV, 2 do listed[#listed + 1] = ARGV[i] end
if #listed == 0 then
  return 0
end
for i, ticket in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(listed))) do
  if ticket and tonumber(ticket) == tonumber(ARGV[2 * i]) then done[#done + 1] = listed[i] end
end
if #done == 0 then
  return 0
end
return redis.call('ZREM', KEYS[1], unpack(done))
