-- walk: reads the next page of an app's approvals. Reads only.
--
-- ARGV 1 birth, 2 cursor, 3 about how many, 4 the run of Redis in which the cursor is valid
-- Returns {run, next cursor ('0' at the end), tenant and mark of each approval}.
-- Atomic. Each approval that stays is returned at least once until the end, while one process of Redis serves. Another
-- process has another order, in which the cursor would leave some out, so the walk begins again if the run differs.
local own = redis.call('HMGET', BOX, 'format', 'birth')
local other = guard(own[1], own[2])
if other then return other end
local run = ''
local info = redis.pcall('INFO', 'server')
if type(info) == 'string' then run = string.match(info, 'run_id:(%x+)') or '' end
local cursor = ARGV[4] == run and ARGV[2] or '0'
local page = redis.call('HSCAN', TENANTS, cursor, 'COUNT', ARGV[3])
local out = {run, page[1]}
for _, v in ipairs(page[2]) do out[#out + 1] = v end
return out
