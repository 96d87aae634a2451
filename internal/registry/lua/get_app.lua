-- Reads one app and its life.
--
-- KEYS[1] HASH apps: client id -> "<revision>;<document>"
-- KEYS[2] HASH lives: client id -> "<birth>;<digest>;<revision of the endpoint>"
-- ARGV[1] client id
--
-- Returns {stored app, life or ''}, nothing when there is no such app. Error FORMAT: the key is of another
-- type.
--
-- Atomic: both are of one moment. Writes nothing.
local stored = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(stored) == 'table' then
  return redis.error_reply('FORMAT the apps are of another type')
end
if not stored then
  return {}
end
return {stored, redis.call('HGET', KEYS[2], ARGV[1]) or ''}
