-- job_settle: releases a claimed job, after a page that failed or before its end, or ends it.
--
-- ARGV 1 '', 2 token, 3 'release', 'fail', or the state in which it ends, 4 reason ('' for release),
--      5 pause ms after the first failure, 6 longest pause ms, 7 ms for which a page may fail before the job does,
--      '0' for ever
-- Returns {state, in ms: when the page is tried again}; {'lost', '0'} if the caller does not hold the claim: nothing
--      was written.
-- Atomic: the claim, and the state of the job. It needs no spare memory, so that the failure of a full Redis is stored.
settle()
if not holds(ARGV[2]) then return {'lost', '0'} end
if ARGV[3] == 'release' then
  redis.call('HDEL', JOB, 'claim')
  redis.call('HSET', JOB, 'until', '0')
  return {'running', '0'}
end
if ARGV[3] ~= 'fail' then
  close(JOB, ARGV[3], ARGV[4])
  return {ARGV[3], '0'}
end
local j = redis.call('HMGET', JOB, 'tries', 'failing')
local tries, failing = num(j[1]) + 1, j[2] and num(j[2]) or now
if ARGV[7] ~= '0' and now - failing >= tonumber(ARGV[7]) then
  close(JOB, 'failed', ARGV[4])
  return {'failed', '0'}
end
local pause = math.min(tonumber(ARGV[5]) * 2 ^ math.min(tries - 1, 20), tonumber(ARGV[6]))
redis.call('HDEL', JOB, 'claim')
redis.call('HSET', JOB, 'until', '0', 'tries', int(tries), 'failing', int(failing), 'retry', int(now + pause), 'reason', ARGV[4], 'updated', int(now))
return {'running', int(pause)}
