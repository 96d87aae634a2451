-- Reads which apps changed for engines since a revision.
--
-- KEYS[1] HASH feed: revision, floor
-- KEYS[2] ZSET feed_changed: client id -> revision
-- KEYS[3] ZSET feed_removed: client id -> revision
-- KEYS[4] ZSET feed_history: the revisions that were assigned
-- ARGV[1] the revision that the reader knows
-- ARGV[2] how many changed apps at most, and how many removed ones
--
-- Returns {revision, list of changed client ids, list of removed client ids}. It returns {revision} alone when
-- the reader must start over: the revision is below the floor, it is not one of the remembered revisions (it
-- was lost with Redis's last writes), or more apps changed, or were removed, than a delta should hold: far
-- fewer than are remembered.
--
-- Atomic: all parts are of one moment. Writes nothing.
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0')
local floor = tonumber(redis.call('HGET', KEYS[1], 'floor') or '0')
if not revision or not floor then
  return redis.error_reply('FORMAT the feed has no revision that is a number')
end
local after = tonumber(ARGV[1])
if after < floor then
  return {revision}
end
if after > 0 and after ~= revision and redis.call('EXISTS', KEYS[4]) == 1 and not redis.call('ZSCORE', KEYS[4], ARGV[1]) then
  return {revision}
end
if redis.call('ZCOUNT', KEYS[2], '(' .. ARGV[1], '+inf') > tonumber(ARGV[2])
  or redis.call('ZCOUNT', KEYS[3], '(' .. ARGV[1], '+inf') > tonumber(ARGV[2]) then
  return {revision}
end
return {
  revision,
  redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf'),
  redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf'),
}
