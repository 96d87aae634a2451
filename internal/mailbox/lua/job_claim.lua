-- job_claim: claims a job, to make its pages.
--
-- ARGV 1 '', 2 token, 3 lease ms
-- Returns {'claimed', the job's fields and values}, also after an earlier call with the token; {'busy', in ms} if it
--      is claimed, or a page failed and waits: when to try again; {'ended'}; {'none'} if there is no such job.
-- Atomic: reading and claiming. Each page renews the claim.
settle()
local j = redis.call('HMGET', JOB, 'state', 'claim', 'until', 'retry')
if not j[1] then return {'none'} end
if j[1] ~= 'running' then return {'ended'} end
local free = j[2] ~= ARGV[2] and num(j[3]) or 0
free = math.max(free, num(j[4]))
if free > now then return {'busy', int(free - now)} end
redis.call('HSET', JOB, 'claim', ARGV[2], 'until', int(now + tonumber(ARGV[3])))
return {'claimed', redis.call('HGETALL', JOB)}
