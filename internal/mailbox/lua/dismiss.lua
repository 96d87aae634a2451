-- dismiss: withdraws approvals and removes what is pending for them.
--
-- KEYS  6 dismissed ZSET  tenant -> the number of the dismissal that last withdrew its approval; '' -> the number
--       above which the set holds all dismissals, so that admit need not refuse tenants that were not dismissed
-- ARGV  1 birth, 2 about how many tenants the set holds, 3 for how many seconds after the last dismissal, then tenants
-- Returns the number of approvals removed. A tenant in flight stays so until its result or its lease's end.
-- Atomic: all tenants of the call, and the count of dismissals: see admit. If the count was raised without an entry
-- in the set (by a version that only counts, or by the end of a life), the set begins anew.
local b = redis.call('HMGET', BOX, 'dismissals', 'format', 'birth')
local refused = guard(b[2], b[3])
if refused then return refused end
local ts, fields = {unpack(ARGV, 4)}, {}
if #ts == 0 then return 0 end
for i, t in ipairs(ts) do
  fields[3 * i - 2], fields[3 * i - 1], fields[3 * i] = t .. '|status', t .. '|move', t .. '|restore'
end
local marks, count, gone = redis.call('HMGET', TENANTS, unpack(ts)), more(b[1]), {}
for i, t in ipairs(ts) do
  if marks[i] then gone[#gone + 1], gone[#gone + 2] = count, t end
end
local n = redis.call('HDEL', TENANTS, unpack(ts))
redis.call('HDEL', WAITING, unpack(fields))
redis.call('ZREM', DUE, unpack(ts))
if n == 0 then return 0 end
redis.call('HSET', BOX, 'dismissals', count)
local highest = redis.call('ZRANGE', KEYS[6], -1, -1, 'WITHSCORES')[2]
if not highest or tonumber(highest) ~= tonumber(count) - 1 then
  redis.call('UNLINK', KEYS[6])
  gone[#gone + 1], gone[#gone + 2] = int(tonumber(count) - 1), ''
end
redis.call('ZADD', KEYS[6], unpack(gone))
local over = redis.call('ZCARD', KEYS[6]) - 1 - tonumber(ARGV[2])
if over > 0 then
  local last = redis.call('ZRANGE', KEYS[6], over, over, 'WITHSCORES')[2]
  redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', last)
  redis.call('ZADD', KEYS[6], last, '')
end
redis.call('EXPIRE', KEYS[6], ARGV[3])
return n
