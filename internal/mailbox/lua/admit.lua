-- admit: approves tenants, or asks for their status to be told again.
--
-- KEYS  6 dismissed ZSET  tenant -> the count of dismissals that took its approval back last, '' -> the count behind
--       which it holds them all; see dismiss.lua
-- ARGV  1 birth, 2 'approve', 'first' (approve where nobody did yet) or 'resync', 3 dismissals counted before
--       the tops were read ('' for resync), then per tenant two values: tenant, top
-- Returns the number of tenants whose status will be told by the next deposit; -1 when the approval of one of them
--       was, or may have been, taken back since the count, so that a top may be older than what the former
--       approval told: nothing was admitted, read the tops again; -2 when 'first' finds an approval: nothing was
--       admitted.
--
-- Approving marks an absent tenant "<top>*" and leaves a present one as it is, so that a repeat
-- tells nothing twice; resync adds the '*' to a present one and leaves an absent one out.
-- A mailbox that was set to expire (its app was deleted and is back) stays once it has an approval.
-- Atomic: all tenants of the call.
local b = redis.call('HMGET', BOX, 'dismissals', 'format', 'birth')
local refused = guard(b[2], b[3])
if refused then return refused end
local first = ARGV[2] == 'first'
local approve, ts = first or ARGV[2] == 'approve', {}
for i = 4, #ARGV, 2 do ts[#ts + 1] = ARGV[i] end
if #ts == 0 then return 0 end
local marks, n, absent, names, again = redis.call('HMGET', TENANTS, unpack(ts)), 0, {}, {}, {}
for i, t in ipairs(ts) do
  local mark = marks[i]
  if first and mark then return -2 end
  local star = mark and string.sub(mark, -1) == '*'
  if approve and not mark then
    absent[#absent + 1], absent[#absent + 2] = t, ARGV[2 * i + 3] .. '*'
    names[#names + 1] = t
    n = n + 1
  elseif approve then
    if star then n = n + 1 end
  elseif mark then
    if not star then again[#again + 1], again[#again + 2] = t, mark .. '*' end
    n = n + 1
  end
end
if #again > 0 then redis.call('HSET', TENANTS, unpack(again)) end
if #absent == 0 then return n end

local count, since = b[1] or '0', ARGV[3]
if count ~= since then
  local behind = redis.call('ZSCORE', KEYS[6], '')
  local highest = redis.call('ZRANGE', KEYS[6], -1, -1, 'WITHSCORES')[2]
  local known = behind and tonumber(highest) == tonumber(count)
  if not known or tonumber(since) < tonumber(behind) or tonumber(since) > tonumber(count) then return -1 end
  for _, at in ipairs(redis.call('ZMSCORE', KEYS[6], unpack(names))) do
    if at and tonumber(at) > tonumber(since) then return -1 end
  end
end
redis.call('HSET', TENANTS, unpack(absent))
redis.call('HDEL', BOX, 'ended')
redis.call('PERSIST', BOX)
redis.call('PERSIST', FLIGHT)
return n
