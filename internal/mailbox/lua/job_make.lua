-- job_make: makes a job that deposits the status of an app's tenants, or joins the one of that kind that runs.
--
-- KEYS 6 the job to make, 8 the job that the caller saw running, the same as 6 if it saw none
-- ARGV 1 birth, 2 kind, 3 number, 4 number of the job that the caller saw running, '' for none, 5 by, 6 role
-- Returns {'made' or 'joined', number, approvals}, or {'moved'} if another job runs than the caller saw.
-- Atomic: reading and making. The caller wants all tenants deposited from now on: a job that has begun goes round
-- once more when it reaches its end, however many callers joined it. A job of a former life is ended.
local open = redis.call('HGET', OPEN, ARGV[2]) or ''
if open ~= ARGV[4] and open ~= ARGV[3] then return {'moved'} end
local of = redis.call('HLEN', TENANTS)
if open == ARGV[3] then return {'made', open, of} end
if open ~= '' then
  local j = redis.call('HMGET', KEYS[8], 'state', 'birth', 'until', 'again', 'of', 'v')
  if j[6] and j[6] ~= '1' then return redis.error_reply('FORMAT job has format ' .. j[6] .. ', this version knows 1') end
  if j[1] == 'running' and num(j[2]) == tonumber(ARGV[1]) then
    if not j[4] and j[3] then
      redis.call('HSET', KEYS[8], 'again', '1', 'of', int(num(j[5]) + of), 'updated', int(now))
    end
    return {'joined', open, of}
  end
  if j[1] == 'running' then close(KEYS[8], 'cancelled', 'app_gone') end
end
redis.call('HSET', JOB, 'v', '1', 'kind', ARGV[2], 'number', ARGV[3], 'birth', ARGV[1], 'state', 'running', 'done', '0', 'of', int(of),
  'by', ARGV[5], 'role', ARGV[6], 'created', int(now), 'updated', int(now))
redis.call('HSET', OPEN, ARGV[2], ARGV[3])
return {'made', ARGV[3], of}
