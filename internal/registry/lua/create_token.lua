-- Adds an admin API token.
--
-- KEYS[1] HASH token id -> token document
-- KEYS[2] HASH hash of a token's secret part -> token id
-- KEYS[3] HASH token id -> when it was last used
-- KEYS[4] STREAM audit
-- ARGV[1] token id
-- ARGV[2] hash of its secret part
-- ARGV[3] token document
-- ARGV[4] its role
-- ARGV[5] "1" to add it only when no token of its role is good now
-- ARGV[6] ms for which a token that ended is remembered
-- ARGV[7] how many tokens there may be, those that ended included
-- ARGV[8] about how many audit entries to keep
-- ARGV[9..12] actor, role, request id, the token in words, for the audit
--
-- Returns 1 when added; 0 when a token of the role is good and ARGV[5] is "1", or when this very
-- token exists, ended or not; 2 when the id or the hash belongs to another token; 3 when there are too many.
--
-- Atomic: of several callers that add a first token, one succeeds; token and audit are one step. Tokens that ended long ago are
-- forgotten in the same step, except the last of a role, so that a role once set up stays so.
local owner = redis.call('HGET', KEYS[2], ARGV[2])
if owner then
  return owner == ARGV[1] and 0 or 2
end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  return 2
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local all, count, good, ended = redis.call('HGETALL', KEYS[1]), {}, {}, {}
for i = 1, #all, 2 do
  local ok, token = pcall(cjson.decode, all[i + 1])
  if ok and type(token) == 'table' and token.v == 1 then
    count[token.role] = (count[token.role] or 0) + 1
    local last = (token.r or 0) > 0 and token.r or (token.e or 0)
    if (token.r or 0) == 0 and ((token.e or 0) == 0 or token.e > now) then good[token.role] = true end
    if last > 0 and last < now - tonumber(ARGV[6]) then
      ended[#ended + 1] = {all[i], token.role}
    end
  elseif ARGV[5] == '1' then
    return redis.error_reply('FORMAT a stored token is not of format 1')
  end
end
if ARGV[5] == '1' and good[ARGV[4]] then
  return 0
end
if #all / 2 - #ended >= tonumber(ARGV[7]) then
  return 3
end

redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
count[ARGV[4]] = (count[ARGV[4]] or 0) + 1
local forgotten = {}
for _, t in ipairs(ended) do
  if count[t[2]] > 1 then
    count[t[2]] = count[t[2]] - 1
    forgotten[t[1]] = true
    redis.call('HDEL', KEYS[1], t[1])
    redis.call('HDEL', KEYS[3], t[1])
  end
end
if next(forgotten) then
  local hashes = redis.call('HGETALL', KEYS[2])
  for i = 1, #hashes, 2 do
    if forgotten[hashes[i + 1]] then
      redis.call('HDEL', KEYS[2], hashes[i])
    end
  end
end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[8], '*', 'v', '1', 'actor', ARGV[9], 'role', ARGV[10],
  'request', ARGV[11], 'action', 'token.create', 'subject', ARGV[1], 'before', '', 'after', ARGV[12])
return 1
