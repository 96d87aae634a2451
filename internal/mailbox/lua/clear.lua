-- clear: one page of the job that removes a former life's approvals, after the tenants' index was made to match
-- the present mailbox.
--
-- KEYS 8 former HASH, named by the birth that followed the former life
-- ARGV 1 '', 2 that birth, 3 token, 4 lease ms, then tenants
-- Returns {'moved' or 'done', the number of approvals of that former life that are left}; {'lost'} if the caller
--      does not hold the claim: nothing was written.
-- Atomic: the page, the job's counts and its claim. With the last page also the removal of the birth, the job's end,
-- and the expiry of a deleted app's mailbox. A repeat finds nothing to do.
settle()
if not holds(ARGV[3]) then return {'lost'} end
if #ARGV > 4 then redis.call('HDEL', KEYS[8], unpack(ARGV, 5)) end
local left = redis.call('HLEN', KEYS[8])
local of = math.max(num(redis.call('HGET', JOB, 'of')), left)
redis.call('HDEL', JOB, 'tries', 'failing', 'retry', 'reason')
redis.call('HSET', JOB, 'until', int(now + tonumber(ARGV[4])), 'updated', int(now), 'of', int(of), 'done', int(of - left))
if left > 0 then return {'moved', left} end
local b = redis.call('HMGET', BOX, 'former', 'ended')
local former = b[1]
if former then
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
close(JOB, 'done', '')
return {'done', left}
