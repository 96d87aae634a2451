-- Stores what one process recently saw of hosts, and returns what all processes saw.
--
-- KEYS[1] HASH reach: process -> "<when, ms>;<report>"
-- KEYS[2] STR  the newest common cause
-- ARGV[1] process
-- ARGV[2] its report
-- ARGV[3] ms for which a report is kept
-- ARGV[4] how many reports are kept
--
-- Returns {now, cause, report...}: Redis's time, ms; the stored common cause, '' for none; the reports of the
-- processes, also of those that ended recently, in no order.
--
-- Atomic: with more reports than are kept the oldest are removed, also with concurrent writers.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- After a first write that needs no memory the script runs to its end although Redis is at maxmemory.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f;%s', now, ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local all = redis.call('HGETALL', KEYS[1])
local list = {}
for i = 1, #all, 2 do
  local stamp = string.match(all[i + 1], '^%d+;')
  local at = stamp and tonumber(string.sub(stamp, 1, -2))
  if at and at > now - ARGV[3] and at <= now then
    list[#list + 1] = {process = all[i], at = at, text = all[i + 1], from = #stamp + 1}
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
if #list > tonumber(ARGV[4]) then
  table.sort(list, function(a, b)
    return a.at > b.at or a.at == b.at and (a.process == ARGV[1] or b.process ~= ARGV[1] and a.process < b.process)
  end)
end
local out = {now, redis.call('GET', KEYS[2]) or ''}
for i, r in ipairs(list) do
  if i > tonumber(ARGV[4]) then
    redis.call('HDEL', KEYS[1], r.process)
  else
    out[#out + 1] = string.sub(r.text, r.from)
  end
end
return out
