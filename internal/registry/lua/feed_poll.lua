-- Reads the revision of what engines see, and detects that Redis lost writes.
--
-- KEYS[1] HASH feed: revision, floor (the oldest revision that a reader may name)
-- KEYS[2] ZSET feed_history: the revisions that were assigned
-- ARGV[1] the highest revision that the caller ever read, 0 for none
--
-- Returns the revision, 0 before the first.
--
-- Atomic: if the stored revision is below the one that was read, writes were lost, and later answers are not
-- reliable. Revision and floor then rise above all that was returned before, so that engines with an older
-- revision start over. Otherwise it writes nothing.
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0')
local seen = tonumber(ARGV[1])
if not revision then
  return redis.error_reply('FORMAT the feed has no revision that is a number')
end
if revision >= seen then
  return revision
end
local time = redis.call('TIME')
revision = math.max(seen + 1, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local text = string.format('%.0f', revision)
redis.call('HSET', KEYS[1], 'revision', text, 'floor', text)
redis.call('ZADD', KEYS[2], text, text)
return revision
