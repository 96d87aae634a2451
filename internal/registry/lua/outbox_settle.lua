-- Writes down what came of sending a claimed mail.
--
-- KEYS[1] HASH  outbox: mail id -> entry, see outbox_claim.lua
-- ARGV[1] mail id
-- ARGV[2] by: the claim's name
-- ARGV[3] s sent, w to be tried again, f failed for good
-- ARGV[4] ms from now: until it is tried again, or how long a settled one is remembered
-- ARGV[5] the body that replaces the letter of a failed one
--
-- Returns 1 written, also by an earlier run of the same call; 0 no such mail; 2 the claim is
-- another's by now, nothing written. That a mail was sent is a fact: anybody's claim may say so.
-- Error FORMAT: the entry is of another version and stays untouched.
--
-- Atomic: comparison and writing are one step. A sent mail leaves its id behind for a while, so
-- that a late task finds it settled.
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then
  return 0
end
local state, by, attempts, after, body = string.match(text, '^1;(%a);%d+;%d+;([^;]*);(%d+);([^;]*);(.*)$')
if not state then
  return redis.error_reply('FORMAT the outbox entry is not of format 1')
end
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4]
if ARGV[3] == 's' then
  if state ~= 's' then
    redis.call('HSET', KEYS[1], ARGV[1], string.format('1;s;%.0f;0;%s;%s;;', at, ARGV[2], attempts))
  end
  return 1
end
if by ~= ARGV[2] then
  return 2
end
if state == ARGV[3] and state == 'f' then
  return 1
end
if state ~= 'w' then
  return 2
end
if ARGV[3] == 'f' then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('1;f;%.0f;0;%s;%s;;%s', at, by, attempts, ARGV[5]))
else
  redis.call('HSET', KEYS[1], ARGV[1], string.format('1;w;%.0f;0;%s;%s;%s;%s', at, by, attempts, after, body))
end
return 1
