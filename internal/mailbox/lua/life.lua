-- life: begins or ends a life of the app: the app was made, or deleted.
--
-- KEYS  6 former HASH, named by the birth: the approvals of the life before
--       7.. other keys that belong to a life and are removed with it
-- ARGV  1 '', 2 birth: the revision of the write that made the app, or that deleted it, 3 'begin' or 'end',
--       4 how long flight is kept, s, 5 how long the mailbox is kept, s, both for 'end'
-- Returns 1 when the former life was put aside, 0 when the mailbox had that birth already. Error GONE: it has
--       a later one.
-- Atomic, in constant time: UNLINK frees memory in the background, and the approvals are only renamed; clear.lua
-- removes them page by page. Births only grow, so that no former key is used twice, unless Redis lost the mailbox's
-- last writes: RENAME would then delete the former key here. What is in flight, and the counters, outlive the life:
-- a late result must find its stamp, and no generation or version is used twice. Approvals that begin from a top
-- read before are refused as after a dismissal. A mailbox whose app was deleted expires once what its former lives
-- left is cleared away. A repeated end does nothing: a version that knows no births may have made the app again
-- since, under that same birth.
local b = redis.call('HMGET', BOX, 'dismissals', 'former', 'format', 'birth')
local birth = b[4]
local refused = guard(b[3], birth)
if refused then return refused end
settle()
if #ARGV[2] > 15 then return redis.error_reply('FORMAT birth ' .. ARGV[2] .. ' is beyond what Lua counts exactly') end
local caller, own = tonumber(ARGV[2]), num(birth)
if caller < own then
  return redis.error_reply('GONE mailbox belongs to a later life of the app, of ' .. birth)
end
if caller > own and redis.call('EXISTS', BOX, TENANTS) > 0 then
  if redis.call('EXISTS', TENANTS) == 1 then
    redis.call('UNLINK', KEYS[6])
    redis.call('RENAME', TENANTS, KEYS[6])
    redis.call('HSET', BOX, 'dismissals', more(b[1]), 'former', b[2] and b[2] .. ',' .. ARGV[2] or ARGV[2])
  end
  redis.call('UNLINK', WAITING, DUE, unpack(KEYS, 7))
  redis.call('HDEL', BOX, 'owner', 'oexp', 'oepoch', 'gate', 'gopen', 'off', 'held', 'superseded', 'erev', 'probes', 'refusing', 'recall')
end
if caller > own then redis.call('HSET', BOX, 'birth', ARGV[2], 'format', '1') end
if ARGV[3] == 'begin' then
  redis.call('HDEL', BOX, 'ended')
  redis.call('PERSIST', FLIGHT)
  redis.call('PERSIST', BOX)
elseif caller > own then
  redis.call('HSET', BOX, 'ended', ARGV[5])
  redis.call('EXPIRE', FLIGHT, ARGV[4])
  if redis.call('HEXISTS', BOX, 'former') == 0 then redis.call('EXPIRE', BOX, ARGV[5]) end
end
return caller > own and 1 or 0
