-- Begins a request under an idempotency key, or returns the result of an earlier one.
--
-- KEYS[1] HASH the key: v format, f digest of the request, c the run that has the claim, u until when
--         that claim lasts in ms, o the sealed outcome once there is one
-- KEYS[2] ZSET the caller's keys by their expiry in ms
-- ARGV[1] digest of the request
-- ARGV[2] nonce of the run
-- ARGV[3] ms that a run may take
-- ARGV[4] ms to keep the key
-- ARGV[5] how many keys a caller may have
-- ARGV[6] this key's member in KEYS[2]
--
-- Returns {"run"} when the caller is to run the request, {"done", outcome} when an earlier run ended, {"busy",
-- ms} while another one is in progress, for at most that long, {"other"} when the key was used with another
-- request, {"full", ms} when the caller has too many keys, until the first of them expires.
-- Error FORMAT: what is stored is of another version; nothing is written.
--
-- Atomic: of concurrent callers one runs the request. When the claim of a run that died ends, another may
-- begin. Expired keys do not count, and 200 of them are removed.
local e = redis.pcall('HMGET', KEYS[1], 'v', 'f', 'c', 'u', 'o')
if e.err then
  return redis.error_reply('FORMAT the stored key is of another type')
end
if e[1] ~= '1' and (e[1] or e[2]) then
  return redis.error_reply('FORMAT the stored key is not of format 1')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if e[2] then
  if e[2] ~= ARGV[1] then return {'other'} end
  if e[5] then return {'done', e[5]} end
  local left = (tonumber(e[4]) or 0) - now
  if e[3] ~= ARGV[2] and left > 0 then return {'busy', left} end
else
  local text = string.format('%.0f', now)
  local lapsed = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', text, 'LIMIT', 0, 200)
  if #lapsed > 0 then redis.call('ZREM', KEYS[2], unpack(lapsed)) end
  if redis.call('ZCOUNT', KEYS[2], '(' .. text, '+inf') >= tonumber(ARGV[5]) then
    local next = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. text, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return {'full', tonumber(next[2]) - now}
  end
end
local lapses = string.format('%.0f', now + tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'v', '1', 'f', ARGV[1], 'c', ARGV[2], 'u', string.format('%.0f', now + tonumber(ARGV[3])))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], lapses, ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {'run'}
