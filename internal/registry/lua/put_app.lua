-- Writes an app's settings, and its sealed secrets where given, if nobody else wrote since.
--
-- KEYS[1] HASH  apps: client id -> "<revision>;<document>"
-- KEYS[2] ZSET  index of client ids, score 0
-- KEYS[3] STR   revision of the settings
-- KEYS[4] ZSET  changed: client id -> revision
-- KEYS[5] ZSET  removed: client id -> revision
-- KEYS[6] HASH  secrets: client id -> sealed value
-- KEYS[7] STREAM audit
-- ARGV[1] client id
-- ARGV[2] the revision the writer expects: -1 any, 0 no such app
-- ARGV[3] the document
-- ARGV[4] sealed secrets, empty to keep those that are there
-- ARGV[5] about how many audit entries to keep
-- ARGV[6..9] actor, role, request id, action, for the audit
-- ARGV[10..] per note: action, before, after, audited beside the write
--
-- Returns {1, revision, existed 0|1} when written, {0, revision} when the expected revision is
-- not the current one (0: no such app). Error FORMAT: the stored app is of another version and
-- stays untouched.
--
-- Atomic: comparison, revision, document, secrets, index and audit are one step.
local old = redis.call('HGET', KEYS[1], ARGV[1])
local current, before = 0, ''
if old then
  local revision, document = string.match(old, '^(%d+);({"v":1[,}].*)$')
  if not revision then
    return redis.error_reply('FORMAT the stored app is not of format 1')
  end
  current, before = tonumber(revision), document
end
local expected = tonumber(ARGV[2])
if expected >= 0 and expected ~= current then
  return {0, current}
end

local revision = redis.call('INCR', KEYS[3])
local text = string.format('%.0f', revision)
redis.call('HSET', KEYS[1], ARGV[1], text .. ';' .. ARGV[3])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZADD', KEYS[4], text, ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[6], ARGV[1], ARGV[4])
end
redis.call('XADD', KEYS[7], 'MAXLEN', '~', ARGV[5], '*', 'v', '1', 'actor', ARGV[6], 'role', ARGV[7],
  'request', ARGV[8], 'action', ARGV[9], 'subject', ARGV[1], 'before', before, 'after', ARGV[3])
for i = 10, #ARGV, 3 do
  redis.call('XADD', KEYS[7], 'MAXLEN', '~', ARGV[5], '*', 'v', '1', 'actor', ARGV[6], 'role', ARGV[7],
    'request', ARGV[8], 'action', ARGV[i], 'subject', ARGV[1], 'before', ARGV[i + 1], 'after', ARGV[i + 2])
end
return {1, revision, old and 1 or 0}
