-- Writes an app's settings, and its sealed secrets if given, unless the app was written since it was read.
--
-- KEYS[1] HASH  apps: client id -> "<revision>;<document>"
-- KEYS[2] ZSET  index of client ids, score 0
-- KEYS[3] STR   revision of the settings
-- KEYS[4] ZSET  changed: client id -> revision
-- KEYS[5] ZSET  removed: client id -> revision
-- KEYS[6] HASH  secrets: client id -> sealed value
-- KEYS[7] STREAM audit, or audit_partners where a partner writes
-- KEYS[8] HASH  feed: revision of what engines see
-- KEYS[9] HASH  feed_parts: client id -> digest of what engines see of the app
-- KEYS[10] ZSET feed_changed: client id -> revision of the feed
-- KEYS[11] ZSET feed_removed: client id -> revision of the feed
-- KEYS[12] ZSET feed_history: the revisions of the feed that were assigned
-- KEYS[13] ZSET history: the revisions of the settings that were assigned
-- KEYS[14] HASH lives: client id -> "<birth>;<digest>;<revision of the endpoint>"
-- KEYS[15] LIST ids of the partner's entries in the audit; only where a partner writes
-- KEYS[16] STR how many entries partners have made; only where a partner writes
-- ARGV[1] client id
-- ARGV[2] the revision the writer expects: -1 any, 0 no such app
-- ARGV[3] the document
-- ARGV[4] sealed secrets, empty to keep those that are there
-- ARGV[5] about how many audit entries to keep
-- ARGV[6..9] actor, role, request id, action, for the audit
-- ARGV[10] digest of what engines see, empty for nothing
-- ARGV[11] how many removals the feed remembers, and how many revisions are remembered
-- ARGV[12] digest of the state-change endpoint's URLs and switch
-- ARGV[13] the differing members of the stored document, for the audit, ARGV[14] those of the new one
-- ARGV[15..] per note: action, before, after, audited beside the write
--
-- Returns {1, revision, existed 0|1, life} when written, {0, revision} when the expected revision is not the
-- current one (0: no such app). If document and notes change nothing, nothing is written, and the revision is
-- the current one. Error FORMAT: the stored app is of another version and stays unchanged.
--
-- Atomic: comparison, revision, document, secrets, index, feed and audit are one step. A revision is the
-- previous one plus 1, or Redis's clock in ms if that is more, so that a revision that was lost with Redis's
-- last writes is not assigned again. The feed's revision grows only if what engines see changed. A new app's
-- birth is the revision that makes it. Its endpoint's revision is the last one that brought another digest.
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
if old and before == ARGV[3] and ARGV[4] == '' and #ARGV == 14 then
  return {1, current, 1, redis.call('HGET', KEYS[14], ARGV[1]) or ''}
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local newest = redis.call('GET', KEYS[3]) or '0'
if not tonumber(newest) then
  return redis.error_reply('FORMAT the revision is not a number')
end
local text = advance(newest, now, KEYS[13], ARGV[11])
redis.call('SET', KEYS[3], text)
redis.call('HSET', KEYS[1], ARGV[1], text .. ';' .. ARGV[3])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZADD', KEYS[4], text, ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
local born, digest, at = string.match(redis.call('HGET', KEYS[14], ARGV[1]) or '', '^(%d+);([^;]*);(%d+)$')
if not old then born = text end
if not old or digest ~= ARGV[12] then at = text end
local life = (born or '0') .. ';' .. ARGV[12] .. ';' .. at
redis.call('HSET', KEYS[14], ARGV[1], life)
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[6], ARGV[1], ARGV[4])
end
note(KEYS[7], KEYS[15], KEYS[16], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[1], ARGV[13], ARGV[14])
if (redis.call('HGET', KEYS[9], ARGV[1]) or '') ~= ARGV[10] then
  local last = redis.call('HGET', KEYS[8], 'revision') or '0'
  local seen = advance(last, now, KEYS[12], ARGV[11])
  redis.call('HSET', KEYS[8], 'revision', seen)
  if ARGV[10] == '' then
    redis.call('HDEL', KEYS[9], ARGV[1])
    redis.call('ZREM', KEYS[10], ARGV[1])
    redis.call('ZADD', KEYS[11], seen, ARGV[1])
    redis.call('ZREMRANGEBYRANK', KEYS[11], 0, -(tonumber(ARGV[11]) + 1))
  else
    redis.call('HSET', KEYS[9], ARGV[1], ARGV[10])
    redis.call('ZADD', KEYS[10], seen, ARGV[1])
    redis.call('ZREM', KEYS[11], ARGV[1])
  end
end
for i = 15, #ARGV, 3 do
  note(KEYS[7], KEYS[15], KEYS[16], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[i], ARGV[1], ARGV[i + 1], ARGV[i + 2])
end
return {1, tonumber(text), old and 1 or 0, life}
