-- revision: added before the scripts that write apps. It uses their KEYS and ARGV, and is atomic with them.
--
-- advance returns the revision after last: Redis's clock in ms, or one more than last if that is higher. It
-- adds last and the new one to history, a ZSET of which the newest keep are kept, so that readers can detect
-- that Redis lost a revision. It returns a string: Lua's own conversion loses digits.
local function advance(last, now, history, keep)
  local text = string.format('%.0f', math.max(tonumber(last) + 1, now))
  redis.call('ZADD', history, last, last, text, text)
  redis.call('ZREMRANGEBYRANK', history, 0, -(tonumber(keep) + 1))
  return text
end
