-- Revokes an admin API token.
--
-- KEYS[1] HASH token id -> token document
-- ARGV[1] token id
--
-- Returns 1 when it is revoked now, 0 when it was before, 2 when there is no such token. Error
-- FORMAT: the token is of another version; it stays as it is.
--
-- Atomic: the time of the first revocation stands.
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
return 1
