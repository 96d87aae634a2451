-- Lays a letter into its recipient's tray.
--
-- KEYS[1] HASH  tray: "letter:<mail id>" -> "<arrived ms>;<letter>", "done:<mail id>" -> ms when it is forgotten,
--               "thread:<incident id>" -> "<ms when it is forgotten>;<Message-ID of the digest that told of it>", and v (format, 1), count, oldest, due, lease, by, attempts, window, sent, parcel,
--               till: up to when an empty tray is remembered, ms, which versions before do not know; scan: where tray_settle.lua goes on
-- ARGV[1] mail id
-- ARGV[2] letter
-- ARGV[3] how long an empty tray waits for more, ms
-- ARGV[4] how many letters a tray holds of those that are like this one
--
-- Returns {code, due ms}: 1 laid in, 2 it is or was there already, 0 the tray is full.
-- Error FORMAT: the tray is of another version and stays untouched.
--
-- Atomic: looking and laying in are one step, so a letter that is handed over twice is there once.
local v = redis.call('HGET', KEYS[1], 'v')
if v and v ~= '1' then
  return redis.error_reply('FORMAT the tray is not of format 1')
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
