-- job_clear: makes the job that clears away after a former life, if there is something to clear away.
--
-- KEYS 8 former HASH, named by the birth that followed the former life
-- ARGV 1 '', 2 that birth, 3 number, 4 by, 5 role, 6 '1': made although nothing is to be cleared away, and done at once
-- Returns 1 if the job exists now, also after an earlier call; 0 if there is nothing to do.
-- Atomic: reading and making. It needs no spare memory: clearing away frees some.
settle()
if version then return 1 end
local of = redis.call('HLEN', KEYS[8])
local former = ',' .. (redis.call('HGET', BOX, 'former') or '') .. ','
local left = of > 0 or string.find(former, ',' .. ARGV[2] .. ',', 1, true)
if not left and ARGV[6] ~= '1' then return 0 end
redis.call('HSET', JOB, 'v', '1', 'kind', 'clear', 'number', ARGV[3], 'birth', ARGV[2], 'state', 'running', 'done', '0', 'of', int(of),
  'by', ARGV[4], 'role', ARGV[5], 'created', int(now), 'updated', int(now))
if not left then close(JOB, 'done', '') end
return 1
