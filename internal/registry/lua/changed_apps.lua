-- Reads what changed in the apps since a revision: one page of the apps written, and the removals.
--
-- KEYS[1] HASH apps: client id -> "<revision>;<document>"
-- KEYS[2] STR  revision of the settings
-- KEYS[3] ZSET changed: client id -> revision
-- KEYS[4] ZSET removed: client id -> revision
-- KEYS[5] HASH secrets: client id -> sealed value
-- KEYS[6] ZSET history: the revisions that were assigned
-- KEYS[7] HASH lives: client id -> "<birth>;<digest>;<revision of the endpoint>"
-- ARGV[1] the revision up to which the reader knows the existing apps
-- ARGV[2] the revision up to which it knows the removals, 0 if it needs none
-- ARGV[3] how many apps at most
-- ARGV[4] how many removals at most, less than are remembered
-- ARGV[5] the revision of the reader's state, 0 for none
--
-- Returns {revision, list of (client id, stored app, sealed secrets or '', life or ''), list of removed client
-- ids, 1 when the reader must start over, else 0, revision of the page's last app or ARGV[1]}. The apps are in
-- the order of their revisions. The reader must start over when removals after ARGV[2] are too many, or ARGV[5]
-- is not one of the remembered revisions: then it was lost with Redis's last writes, and with it the reader's
-- state.
--
-- Atomic: all parts are of one moment. Writes nothing.
local revision = tonumber(redis.call('GET', KEYS[2]) or '0')
if not revision then
  return redis.error_reply('FORMAT the revision is not a number')
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[3])
local apps = {}
if #ids > 0 then
  local documents = redis.call('HMGET', KEYS[1], unpack(ids))
  local secrets = redis.call('HMGET', KEYS[5], unpack(ids))
  local lives = redis.call('HMGET', KEYS[7], unpack(ids))
  for i, id in ipairs(ids) do
    apps[#apps + 1] = id
    apps[#apps + 1] = documents[i] or ''
    apps[#apps + 1] = secrets[i] or ''
    apps[#apps + 1] = lives[i] or ''
  end
end
local removed, forgotten = {}, 0
if tonumber(ARGV[2]) > 0 then
  removed = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. ARGV[2], '+inf', 'LIMIT', 0, ARGV[4] + 1)
  if #removed > tonumber(ARGV[4]) then
    removed, forgotten = {}, 1
  end
end
if ARGV[5] ~= '0' and tonumber(ARGV[5]) ~= revision and redis.call('EXISTS', KEYS[6]) == 1
  and not redis.call('ZSCORE', KEYS[6], ARGV[5]) then
  forgotten = 1
end
local last = tonumber(ARGV[1])
if #ids > 0 then
  last = tonumber(redis.call('ZSCORE', KEYS[3], ids[#ids]))
end
return {revision, apps, removed, forgotten, last}
