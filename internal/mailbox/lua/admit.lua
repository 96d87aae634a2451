-- admit: approves tenants, or requests that their status is deposited again.
--
-- KEYS  6 dismissed ZSET  tenant -> the number of the dismissal that last withdrew its approval; '' -> the
--       number above which the set holds all dismissals; see dismiss.lua
-- ARGV  1 birth, 2 'approve', 'first' (approve only if none approved before) or 'resync', 3 number of dismissals
--       read before the tops ('' for resync), then per tenant two values: tenant, top
-- Returns the number of tenants whose status the next deposit will deposit. -1 when the approval of one of them
--       was, or may have been, withdrawn since that number, so that a top may be older than what the former
--       approval delivered: nothing was admitted, the caller reads the tops again. -2 when 'first' finds an
--       approval: nothing was admitted.
--
-- Approving marks an absent tenant "<top>*" and leaves a present one unchanged, so that a repeat deposits nothing
-- twice. resync adds the '*' to a present tenant and leaves out an absent one. A mailbox that was set to expire
-- (its app was deleted and made again) is kept once it has an approval.
-- Atomic: all tenants of the call.
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
