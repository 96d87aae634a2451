-- Removes an app and its secrets and revokes its partner's tokens, unless the app was written since it was
-- read.
--
-- KEYS[1] HASH  apps: client id -> "<revision>;<document>"
-- KEYS[2] ZSET  index of client ids, score 0
-- KEYS[3] STR   revision of the settings
-- KEYS[4] ZSET  changed: client id -> revision
-- KEYS[5] ZSET  removed: client id -> revision
-- KEYS[6] HASH  secrets: client id -> sealed value
-- KEYS[7] STREAM audit
-- KEYS[8] HASH  feed: revision of what engines see
-- KEYS[9] HASH  feed_parts: client id -> digest of what engines see of the app
-- KEYS[10] ZSET feed_changed: client id -> revision of the feed
-- KEYS[11] ZSET feed_removed: client id -> revision of the feed
-- KEYS[12] ZSET feed_history: the revisions of the feed that were assigned
-- KEYS[13] ZSET history: the revisions of the settings that were assigned
-- KEYS[14] HASH  lives: client id -> "<birth>;<digest>;<revision of the endpoint>"
-- KEYS[15] HASH  token id -> token document
-- KEYS[16] HASH  role -> id of the token of that role that was added last
-- KEYS[17] LIST ids of the partner's entries in the audit
-- ARGV[1] client id
-- ARGV[2] the revision the writer expects: -1 any
-- ARGV[3] how many removals to remember
-- ARGV[4] about how many audit entries to keep
-- ARGV[5..7] actor, role, request id, for the audit
-- ARGV[8] how many removals the feed remembers, and how many revisions are remembered
-- ARGV[9] the token of the app's partner that was added last before the caller read all tokens, empty for none
-- ARGV[10] the revision that the caller read, 0 if it could read none, and ARGV[11] the app's document for the
-- audit
-- ARGV[12..] ids of the partner's tokens that are not revoked; 200 at most
--
-- Returns {1, revision} when removed, {0, revision} when the expected revision is not the current one, {2} when
-- there is no such app, {3} when a token of the partner was added, or the app written, since the caller read
-- them.
--
-- Atomic: comparison, removal, revision, feed, revocations and audit are one step, so that no token of a former
-- owner is valid for an app that is made again. A document of another version can be removed if any revision is
-- accepted. The caller reads the tokens page by page, since reading all of them takes too long for one step.
-- The revision is made as in put_app. Of the life only its end is kept: if a version that knows no births makes
-- the app again, its birth is that end.
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old then
  return {2}
end
local current = string.match(old, '^(%d+);{"v":1[,}].*$')
local expected = tonumber(ARGV[2])
local role = 'partner:' .. ARGV[1]
if (redis.call('HGET', KEYS[16], role) or '') ~= ARGV[9] then
  return {3}
end
if expected >= 0 then
  if not current then
    return redis.error_reply('FORMAT the stored app is not of format 1')
  end
  if tonumber(current) ~= expected then
    return {0, tonumber(current)}
  end
end
if (tonumber(current) or 0) ~= tonumber(ARGV[10]) then
  return {3}
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local newest = redis.call('GET', KEYS[3]) or '0'
if not tonumber(newest) then
  return redis.error_reply('FORMAT the revision is not a number')
end
local text = advance(newest, now, KEYS[13], ARGV[8])
redis.call('SET', KEYS[3], text)
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[5], text, ARGV[1])
local beyond = redis.call('ZCARD', KEYS[5]) - tonumber(ARGV[3])
if beyond > 0 then
  local forgotten = redis.call('ZRANGE', KEYS[5], 0, math.min(beyond, 100) - 1)
  redis.call('HDEL', KEYS[14], unpack(forgotten))
  redis.call('ZREM', KEYS[5], unpack(forgotten))
end
redis.call('HSET', KEYS[14], ARGV[1], text .. ';;' .. text)
redis.call('HDEL', KEYS[6], ARGV[1])
if redis.call('HDEL', KEYS[9], ARGV[1]) == 1 then
  local last = redis.call('HGET', KEYS[8], 'revision') or '0'
  local seen = advance(last, now, KEYS[12], ARGV[8])
  redis.call('HSET', KEYS[8], 'revision', seen)
  redis.call('ZREM', KEYS[10], ARGV[1])
  redis.call('ZADD', KEYS[11], seen, ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[11], 0, -(tonumber(ARGV[8]) + 1))
end
redis.call('XADD', KEYS[7], 'MAXLEN', '~', ARGV[4], '*', 'v', '1', 'actor', ARGV[5], 'role', ARGV[6],
  'request', ARGV[7], 'action', 'app.delete', 'subject', ARGV[1], 'before', ARGV[11], 'after', '')

-- The partner's entries stay; those of an app that is made again are counted from 0.
redis.call('UNLINK', KEYS[17])

local stamp = string.format('%.0f', now)
redis.call('HDEL', KEYS[16], role)
for i = 12, #ARGV do
  local head = string.match(redis.call('HGET', KEYS[15], ARGV[i]) or '', '^({"v":1,.*"r":)0}$')
  if head then
    redis.call('HSET', KEYS[15], ARGV[i], head .. stamp .. '}')
    redis.call('XADD', KEYS[7], 'MAXLEN', '~', ARGV[4], '*', 'v', '1', 'actor', ARGV[5], 'role', ARGV[6],
      'request', ARGV[7], 'action', 'token.revoke', 'subject', ARGV[i], 'before', '', 'after', '')
  end
end
return {1, tonumber(text)}
