-- clear: takes approvals of a former life away, after the tenants' index was made to match the living one.
--
-- KEYS  6 former HASH, named by the birth that followed the former life
-- ARGV  1 '', 2 that birth, then tenants
-- Returns the number of approvals of that former life that are left; the birth is struck off with the last.
-- Atomic: the page, striking off, and letting a deleted app's mailbox expire. A repeat finds nothing to do.
settle()
for i = 3, #ARGV do redis.call('HDEL', KEYS[6], ARGV[i]) end
local left = redis.call('HLEN', KEYS[6])
local former = redis.call('HGET', BOX, 'former')
if left == 0 and former then
  local rest = {}
  for b in string.gmatch(former, '[^,]+') do
    if b ~= ARGV[2] and #b < 16 and string.find(b, '^%d+$') then rest[#rest + 1] = b end
  end
  if #rest > 0 then
    redis.call('HSET', BOX, 'former', table.concat(rest, ','))
  else
    redis.call('HDEL', BOX, 'former')
    local ended = redis.call('HGET', BOX, 'ended')
    if ended and redis.call('EXISTS', TENANTS) == 0 then redis.call('EXPIRE', BOX, ended) end
  end
end
return left
