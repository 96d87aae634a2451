-- Gives an app a new revision above all that its mailbox knows, because Redis lost the last writes of the
-- settings. Its document stays as it is.
--
-- KEYS[1] HASH   apps: client id -> "<revision>;<document>"
-- KEYS[2] STR    revision of the settings
-- KEYS[3] ZSET   changed: client id -> revision
-- KEYS[4] ZSET   history: the revisions of the settings that were assigned
-- KEYS[5] HASH   lives: client id -> "<birth>;<digest>;<revision of the endpoint>"
-- KEYS[6] STREAM audit
-- ARGV[1] client id
-- ARGV[2] birth, ARGV[3] revision, ARGV[4] revision of the endpoint that the mailbox knows
-- ARGV[5] about how many audit entries to keep
-- ARGV[6] how many revisions are remembered
--
-- Returns the new revision; 0 when the settings know all of these, or have no such app: nothing is written.
-- Error FORMAT: the stored app is of another version.
--
-- Atomic: comparison, revision, life and audit are one step. If a later life of the app was lost, the new
-- revision becomes the app's birth: the approvals of the lost life were for another app.
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old then return 0 end
local revision, document = string.match(old, '^(%d+);({"v":1[,}].*)$')
if not revision then
  return redis.error_reply('FORMAT the stored app is not of format 1')
end
local born, digest, at = string.match(redis.call('HGET', KEYS[5], ARGV[1]) or '', '^(%d+);([^;]*);(%d+)$')
born, digest, at = born or '0', digest or '', at or '0'
local newest = redis.call('GET', KEYS[2]) or '0'
if not tonumber(newest) then
  return redis.error_reply('FORMAT the revision is not a number')
end
local lost = tonumber(ARGV[2]) > tonumber(born)
if not lost and tonumber(ARGV[3]) <= tonumber(revision) and tonumber(ARGV[4]) <= math.max(tonumber(at), tonumber(revision)) then
  return 0
end
local last = math.max(tonumber(newest), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local text = advance(string.format('%.0f', last), now, KEYS[4], ARGV[6])
redis.call('SET', KEYS[2], text)
redis.call('HSET', KEYS[1], ARGV[1], text .. ';' .. document)
redis.call('ZADD', KEYS[3], text, ARGV[1])
redis.call('HSET', KEYS[5], ARGV[1], (lost and text or born) .. ';' .. digest .. ';' .. text)
redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[5], '*', 'v', '1', 'actor', 'comparison', 'role', 'service',
  'request', '', 'action', 'app.heal', 'subject', ARGV[1], 'before', '', 'after', '')
return tonumber(text)
