-- Adds a mail to its recipient's mail queue.
--
-- KEYS[1] HASH  mail queue: "letter:<mail id>" -> "<arrived ms>;<mail>",
--               "done:<mail id>" -> ms when the entry is removed,
--               "thread:<incident id>" -> "<ms when it is removed>;<Message-ID of the digest that reported it first>",
--               and the fields v (format, 1), count, oldest, due, lease, by, attempts, window, sent, "parcel" (the batch),
--               till: until when an empty queue is kept, ms, which earlier versions do not know;
--               scan: where tray_settle.lua continues
-- ARGV[1] mail id
-- ARGV[2] mail
-- ARGV[3] how long an empty queue waits for more mails, ms
-- ARGV[4] how many mails like this one a queue holds
--
-- Returns {code, due ms}: 1 added, 2 it is or was in the queue already, 0 the queue is full. Error FORMAT: the
-- queue is of another version and stays unchanged.
--
-- Atomic: reading and adding are one step, so a mail that is handed over twice is added once.
local v = redis.call('HGET', KEYS[1], 'v')
if v and v ~= '1' then
  return redis.error_reply('FORMAT the mail queue is not of format 1')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = tonumber(redis.call('HGET', KEYS[1], 'due') or '0')
if redis.call('HEXISTS', KEYS[1], 'letter:' .. ARGV[1]) == 1 or redis.call('HEXISTS', KEYS[1], 'done:' .. ARGV[1]) == 1 then
  return {2, due}
end
local count = tonumber(redis.call('HGET', KEYS[1], 'count') or '0')
if count >= tonumber(ARGV[4]) then
  return {0, due}
end
if not v then
  redis.call('HSET', KEYS[1], 'till', '0')
end
if count == 0 then
  due = now + ARGV[3]
  redis.call('HSET', KEYS[1], 'due', string.format('%.0f', due), 'oldest', string.format('%.0f', now), 'attempts', '0')
end
redis.call('HSET', KEYS[1], 'v', '1', 'letter:' .. ARGV[1], string.format('%.0f;%s', now, ARGV[2]), 'count', count + 1)
redis.call('PERSIST', KEYS[1])
return {1, due}
