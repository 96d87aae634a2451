-- view: a summary of the mailbox. Reads only; atomic, so that its numbers are consistent.
--
-- ARGV  1 '', 2 sample size
-- Returns {entries, tenants with pending entries, tenants in flight, oldest first-deposited ms ('0' none), now ms,
--         gate ms, openings, off revision, owner lease end ms, approvals, replaced since the mailbox was
--         last empty, birth, newest known revision, newest known revision of the endpoint, births whose former
--         approvals are still to be removed, with commas between them}
--
-- The oldest is exact while the entries fit the sample. Beyond, it is the oldest of the tenants that
-- are due first, of those in flight and of a random sample. A tenant in flight without pending entries
-- (dismissed meanwhile, or delivered by another attempt) is in step. Such tenants are left out of
-- the second number, exactly while no more than the sample are in flight.
local b = redis.call('HMGET', BOX, 'gate', 'gopen', 'off', 'oexp', 'superseded', 'srev', 'erev', 'former', 'format', 'birth')
local refused = guard(b[9], b[10])
if refused then return refused end
local n = tonumber(ARGV[2])
local oldest, told = nil, 0
local function see(e)
  local at = e and tonumber(string.match(e, '^[^;]*;[^;]*;[^;]*;[^;]*;(%d+);') or '')
  if at and (not oldest or at < oldest) then oldest = at end
end
for _, key in ipairs({DUE, FLIGHT}) do
  for _, have in ipairs(entriesOf(redis.call('ZRANGE', key, 0, n - 1))) do
    for s = 1, 3 do see(have[s]) end
    if vacant(have) then told = told + 1 end
  end
end
local count = redis.call('HLEN', WAITING)
if count > n then
  local sample = redis.call('HRANDFIELD', WAITING, n, 'WITHVALUES')
  for i = 2, #sample, 2 do see(sample[i]) end
end
local flying = redis.call('ZCARD', FLIGHT)
return {
  count, redis.call('ZCARD', DUE) + flying - told, flying, int(oldest or 0), int(now),
  b[1] or '0', b[2] or '0', b[3] or '', b[4] or '0', redis.call('HLEN', TENANTS),
  b[5] or '0', b[10] or '0', b[6] or '0', b[7] or '0', b[8] or '',
}
