-- Adds an admin API token.
--
-- KEYS[1] HASH token id -> token document
-- KEYS[2] HASH hash of a token's secret part -> token id
-- KEYS[3] HASH token id -> when it was last used
-- KEYS[4] STREAM audit
-- KEYS[5] HASH role -> id of the token of that role that was added last
-- ARGV[1] token id
-- ARGV[2] hash of its secret part
-- ARGV[3] token document
-- ARGV[4] its role
-- ARGV[5] the token of the role that was added last before the caller read all tokens, empty for none, if the
--         caller found that none of the role is valid; "*" when the token may be added whatever others exist
-- ARGV[6] how many tokens there may be, including those that ended
-- ARGV[7] about how many audit entries to keep
-- ARGV[8..11] actor, role, request id, the token as audited, for the audit
-- ARGV[12..] per token to remove: its id, its document, the hash of its secret part or empty; 50 at most
--
-- Returns 1 when added; 0 when this very token exists, ended or not; 2 when the id or the hash belongs to
-- another token; 3 when there are too many; 4 when another of the role was added since the caller read them.
--
-- Atomic: of several callers that add a first token, one succeeds; token and audit are one step. The caller
-- reads the tokens page by page, since reading all of them takes too long for one step. A token that it would
-- remove, and that was altered since, stays.
local owner = redis.call('HGET', KEYS[2], ARGV[2])
if owner then
  return owner == ARGV[1] and 0 or 2
end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  return 2
end
if ARGV[5] ~= '*' and (redis.call('HGET', KEYS[5], ARGV[4]) or '') ~= ARGV[5] then
  return 4
end
local forget = {}
for i = 12, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then forget[#forget + 1] = i end
end
if redis.call('HLEN', KEYS[1]) - #forget >= tonumber(ARGV[6]) then
  return 3
end
for _, i in ipairs(forget) do
  redis.call('HDEL', KEYS[1], ARGV[i])
  redis.call('HDEL', KEYS[3], ARGV[i])
  if redis.call('HGET', KEYS[2], ARGV[i + 2]) == ARGV[i] then redis.call('HDEL', KEYS[2], ARGV[i + 2]) end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[5], ARGV[4], ARGV[1])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[7], '*', 'v', '1', 'actor', ARGV[8], 'role', ARGV[9],
  'request', ARGV[10], 'action', 'token.create', 'subject', ARGV[1], 'before', '', 'after', ARGV[11])
return 1
