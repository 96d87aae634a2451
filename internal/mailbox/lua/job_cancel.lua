-- job_cancel: ends a job that runs because somebody asked for it.
--
-- ARGV 1 '', 2 reason
-- Returns the state in which it is now, '' where there is no such job. One that has ended stays as it is.
-- Atomic: the page at hand was written, or is refused.
settle()
local state = redis.call('HGET', JOB, 'state')
if state ~= 'running' then return state or '' end
close(JOB, 'cancelled', ARGV[2])
return 'cancelled'
