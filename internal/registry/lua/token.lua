-- Reads the token whose secret part has a hash.
--
-- KEYS[1] HASH token id -> token document
-- KEYS[2] HASH hash of a token's secret part -> token id
-- ARGV[1] the hash
--
-- Returns the token document, or false when there is no such token.
--
-- Atomic: one read. Writes nothing.
local id = redis.call('HGET', KEYS[2], ARGV[1])
if not id then
  return false
end
return redis.call('HGET', KEYS[1], id)
