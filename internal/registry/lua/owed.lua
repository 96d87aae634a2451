-- Lists the tenants that have waited longest for a fan-out, or the approvals that have been unfinished for
-- longest.
--
-- KEYS[1] ZSET tenant, or approval -> ticket
-- ARGV[1] how long they must have waited, in microseconds
-- ARGV[2] how many at most
-- ARGV[3] how many of the oldest to skip
-- ARGV[4] the ticket, and ARGV[5] the member, behind which to begin; may be absent. If that member is gone the list
--         begins with the members of its ticket, which at most 500 share
--
-- Returns a flat list of tenant, ticket; oldest first.
--
-- Atomic: one read at Redis's own time. Writes nothing.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local before = string.format('%.0f', now - tonumber(ARGV[1]))
if not ARGV[4] then
  return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'WITHSCORES', 'LIMIT', ARGV[3], ARGV[2])
end
local page = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[4], before, 'WITHSCORES', 'LIMIT', ARGV[3], ARGV[2] + 500)
local first, out = 1, {}
for i = 1, #page, 2 do
  if tonumber(page[i + 1]) ~= tonumber(ARGV[4]) then
    break
  end
  if page[i] == ARGV[5] then
    first = i + 2
    break
  end
end
for i = first, math.min(#page, first + 2 * ARGV[2] - 1) do
  out[#out + 1] = page[i]
end
return out
