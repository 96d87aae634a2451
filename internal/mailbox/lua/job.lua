-- job: what the scripts of jobs share; it stands between the prelude and each of them.
--
-- KEYS 6 job  HASH  a job that is done for an app, page by page:
--        v        1, the format
--        kind, number, birth   its name, and the life it belongs to (for a clear job: the birth that ended that life)
--        state    running, done, failed or cancelled
--        reason   a word: why the last page failed, or why it ended in this state
--        done, of, skipped     tenants
--        cursor, walk          the place of the walk, and the run of the Redis process in which the cursor is valid
--        again    '1': from the start once more when the end is reached
--        by, role, created, updated, ended    who requested it, and when, ms
--        tries, failing, retry how often the current page failed, since when, and when it is tried next, ms
--        claim, until          token of the worker that has the claim, and the end of that claim, ms
--      7 open_jobs HASH  kind -> number of the job of that kind that runs
-- Returns nothing by itself. Atomic: as the script that it is part of.
local JOB, OPEN = KEYS[6], KEYS[7]
local KEEP = 604800 -- s for which an ended job is kept

local own = redis.call('HMGET', BOX, 'format', 'birth')
local other = guard(own[1], own[2])
if other then return other end

local version = redis.call('HGET', JOB, 'v')
if version and version ~= '1' then
  return redis.error_reply('FORMAT job has format ' .. version .. ', this version knows 1')
end

-- holds: the job runs, and the caller has its claim, which is not over. A caller whose claim is over is
-- refused.
local function holds(token)
  local j = redis.call('HMGET', JOB, 'state', 'claim', 'until')
  return j[1] == 'running' and j[2] == token and num(j[3]) > now
end

-- close ends a job that runs.
local function close(job, state, reason)
  local j = redis.call('HMGET', job, 'kind', 'number')
  redis.call('HDEL', job, 'claim', 'until', 'again', 'retry', 'tries', 'failing', 'cursor', 'walk')
  redis.call('HSET', job, 'state', state, 'reason', reason, 'ended', int(now), 'updated', int(now))
  redis.call('EXPIRE', job, KEEP)
  if redis.call('HGET', OPEN, j[1]) == j[2] then redis.call('HDEL', OPEN, j[1]) end
end
