-- job_cancel: ends a running job because a caller cancelled it.
--
-- ARGV 1 '', 2 reason
-- Returns the state of the job, '' if there is no such job. A job that has ended keeps its state.
-- Atomic: the current page was written before, or is refused.
settle()
local state = redis.call('HGET', JOB, 'state')
if state ~= 'running' then return state or '' end
close(JOB, 'cancelled', ARGV[2])
return 'cancelled'
