-- Writes the result of sending a claimed mail.
--
-- KEYS[1] HASH  outbox: mail id -> entry, see outbox_claim.lua
-- KEYS[2] ZSET  settled: mail id -> when the entry is removed, ms
-- ARGV[1] mail id
-- ARGV[2] by: the claim's name
-- ARGV[3] s sent, w to be tried again, f failed permanently
-- ARGV[4] ms from now: until it is tried again, or how long the id of a settled one is kept
-- ARGV[5] how many expired ids are removed at most
--
-- Returns 1 written, also by an earlier run of the same call; 0 no such mail; 2 another has the claim, nothing
-- written. That a mail was sent counts whichever claim reports it.
-- Error FORMAT: the entry is of another version and stays untouched.
--
-- Atomic: comparison and writing are one step. A settled mail leaves the outbox. Its id is kept for a while, so
-- that a late task finds it settled and a late repeat of a step does not write it again.
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then
  if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
    return 0
  end
  return ARGV[3] == 'w' and 2 or 1
end
local state, by, attempts, after, body = string.match(text, '^1;(%a);%d+;%d+;([^;]*);(%d+);([^;]*);(.*)$')
if not state then
  return redis.error_reply('FORMAT the outbox entry is not of format 1')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = string.format('%.0f', now + ARGV[4])
if ARGV[3] ~= 's' and (by ~= ARGV[2] or state == 's' or ARGV[3] == 'w' and state ~= 'w') then
  return 2
end
if ARGV[3] == 'w' then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('1;w;%s;0;%s;%s;%s;%s', at, by, attempts, after, body))
  return 1
end
redis.call('HDEL', KEYS[1], ARGV[1]) -- first: with a Redis at maxmemory the other writes then succeed
redis.call('ZADD', KEYS[2], at, ARGV[1])
local over = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[5])
if #over > 0 then
  redis.call('ZREM', KEYS[2], unpack(over))
end
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if last[2] then
  redis.call('PEXPIRE', KEYS[2], string.format('%.0f', math.max(tonumber(last[2]) - now, 1)))
end
return 1
