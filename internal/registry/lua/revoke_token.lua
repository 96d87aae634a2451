-- Revokes an admin API token.
--
-- KEYS[1] HASH token id -> token document
-- KEYS[2] STREAM audit
-- ARGV[1] token id
-- ARGV[2] about how many audit entries to keep
-- ARGV[3..6] actor, role, request id, the token as audited, for the audit
--
-- Returns 1 when it is revoked now, 0 when it was before, 2 when there is no such token. Error
-- FORMAT: the token is of another version; it stays as it is.
--
-- Atomic: the time of the first revocation stands, and it alone is audited.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if not stored then
  return 2
end
-- The document is edited as text: decoding and encoding it would alter its numbers.
local head, revoked = string.match(stored, '^({"v":1,.*"r":)(%d+)}$')
if not head then
  return redis.error_reply('FORMAT the stored token is not of format 1')
end
if revoked ~= '0' then
  return 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], ARGV[1], head .. string.format('%.0f', now) .. '}')
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'v', '1', 'actor', ARGV[3], 'role', ARGV[4],
  'request', ARGV[5], 'action', 'token.revoke', 'subject', ARGV[1], 'before', ARGV[6], 'after', '')
return 1
