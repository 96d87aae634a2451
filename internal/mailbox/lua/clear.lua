-- clear: takes approvals of a former life away, after the tenants' index was made to match the living one.
--
-- KEYS  6 former HASH, named by the birth that followed the former life
-- ARGV  1 '', 2 that birth, then tenants
-- Returns the number of approvals of that former life that are left; the birth is struck off with the last.
-- Atomic: the page, striking off, and letting a deleted app's mailbox expire. A repeat finds nothing to do.
local b = redis.call('HMGET', BOX, 'former', 'ended', 'format', 'birth')
local refused = guard(b[3], b[4])
if refused then return refused end
settle()
if #ARGV > 2 then redis.call('HDEL', KEYS[6], unpack(ARGV, 3)) end
local left, former = redis.call('HLEN', KEYS[6]), b[1]
if left == 0 and former then
  local rest = {}
  for b in string.gmatch(former, '[^,]+') do
    if b ~= ARGV[2] and #b < 16 and string.find(b, '^%d+$') then rest[#rest + 1] = b end
  end
  if #rest > 0 then
    redis.call('HSET', BOX, 'former', table.concat(rest, ','))
  else
    redis.call('HDEL', BOX, 'former')
    if b[2] and redis.call('EXISTS', TENANTS) == 0 then redis.call('EXPIRE', BOX, b[2]) end
  end
end
return left
