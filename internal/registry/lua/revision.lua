-- revision: prepended to the scripts that write apps; KEYS and ARGV are theirs, and so it is atomic with them.
--
-- advance gives the revision after last: Redis' clock in ms, or one more than last where that is later.
-- It notes last and the new one in history, a ZSET of which the newest keep stay, so that readers can
-- tell a revision that Redis lost. Returns it as text: Lua's own conversion loses digits.
local function advance(last, now, history, keep)
  local text = string.format('%.0f', math.max(tonumber(last) + 1, now))
  redis.call('ZADD', history, last, last, text, text)
  redis.call('ZREMRANGEBYRANK', history, 0, -(tonumber(keep) + 1))
  return text
end
