-- Requests a fast round of the comparison.
--
-- KEYS[1] STR when a fast round was last requested, in microseconds
--
-- Returns the new time: Redis's clock, or one more than the last.
--
-- Atomic: each call requests a round that begins after it. A stored value that is no number is overwritten.
local last = redis.pcall('GET', KEYS[1])
last = type(last) == 'string' and tonumber(last) or 0
local time = redis.call('TIME')
local asked = string.format('%.0f', math.max(last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2])))
redis.call('SET', KEYS[1], asked)
return asked
