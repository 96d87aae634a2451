-- Asks for a fast round of the comparison.
--
-- KEYS[1] STR when a fast round was asked for last, in microseconds
--
-- Returns the new time: Redis' clock, or one more than the last.
--
-- Atomic: each call asks for a round that begins after it. What is stored and no number is written over.
local last = redis.pcall('GET', KEYS[1])
last = type(last) == 'string' and tonumber(last) or 0
local time = redis.call('TIME')
local asked = string.format('%.0f', math.max(last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2])))
redis.call('SET', KEYS[1], asked)
return asked
