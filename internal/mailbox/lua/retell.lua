-- retell: one page of a job that deposits the status of an app's tenants; deposit.lua is its function deposit.
--
-- ARGV those of deposit.lua, then eight more: token, lease ms, 'all' to deposit each status again or "owed" to
--      deposit what was not deposited yet, 'move' if this is the last call of the page, else 'stay', run and cursor
--      of the next page, the cursor '' at the end, tenants of the page, tenants that were skipped
-- Returns {'lost'} if the caller does not hold the claim: nothing was written. Else {'stay', 'moved' or 'done', then
--      what deposit.lua returns, then tenants whose record in this call was too old}: those are marked so that their
--      status is deposited again, and the cursor stays; the caller reads them again and calls with "owed".
-- Atomic: marks, deposit, the job's cursor and counts, and its claim for another lease. So a page is deposited once,
-- whichever process dies. At its end the job begins again if it was requested meanwhile, else it is done.
local a = {}
for i = 8, 1, -1 do a[i] = table.remove(ARGV) end
if not holds(a[1]) then return {'lost'} end

local named = {}
for i = 5, #ARGV, 8 do named[#named + 1] = ARGV[i] end
local before = #named > 0 and redis.call('HMGET', TENANTS, unpack(named)) or {}
local starred, stale = {}, {}
for n, t in ipairs(named) do
  if before[n] then
    local star = string.sub(before[n], -1) == '*'
    local k = tonumber(star and string.sub(before[n], 1, -2) or before[n])
    if k == nil then return redis.error_reply('FORMAT tenant ' .. t .. ' has an unreadable mark') end
    if not star and a[3] == 'all' then
      starred[#starred + 1], starred[#starred + 2] = t, before[n] .. '*'
      star = true
    end
    if star and tonumber(ARGV[8 * n - 2]) < k then stale[#stale + 1] = t end
  end
end
if #starred > 0 then redis.call('HSET', TENANTS, unpack(starred)) end
local told = deposit()
if told.err then return told end

redis.call('HSET', JOB, 'until', int(now + tonumber(a[2])), 'updated', int(now))
local state = 'stay'
if #stale == 0 and a[4] == 'move' then
  local j = redis.call('HMGET', JOB, 'done', 'of', 'again')
  local of = num(j[2])
  state = 'moved'
  redis.call('HDEL', JOB, 'tries', 'failing', 'retry', 'reason')
  redis.call('HSET', JOB, 'done', int(math.min(num(j[1]) + tonumber(a[7]), of)), 'cursor', a[6], 'walk', a[5])
  if a[8] ~= '0' then redis.call('HINCRBY', JOB, 'skipped', a[8]) end
  if a[6] == '' and j[3] then
    redis.call('HDEL', JOB, 'again')
  elseif a[6] == '' then
    close(JOB, 'done', '')
    state = 'done'
  end
end
return {state, told[1], told[2], told[3], told[4], unpack(stale)}
