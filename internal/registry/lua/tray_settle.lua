-- Writes down what came of sending from a claimed tray.
--
-- KEYS[1] HASH  tray, see tray_put.lua
-- ARGV[1] by: the claim's name
-- ARGV[2] release: 1 gives the tray back, 0 keeps the claim
-- ARGV[3] ms from now until it may be claimed again
-- ARGV[4] how long a letter that left is remembered, ms
-- ARGV[5..8] attempts, window, sent, parcel: the new values
-- ARGV[9] how many threads follow, each as incident id, Message-ID and how long it is remembered, ms
-- ARGV[..] then the ids of the letters that leave the tray
--
-- Returns {code, left}: 1 written, also by an earlier run of the same call; 2 the claim is another's by
-- now: nothing but the leaving was written, since that a mail was sent is a fact; 0 no such tray.
-- left is how many letters wait still.
-- Error FORMAT: the tray is of another version and stays untouched.
--
-- Atomic: comparison and writing are one step. A letter that left leaves its id behind for a while,
-- so that a late repeat of laying it in finds it. Threads are written even if the claim is another's
-- by now: they tell of mails that were sent.
local v = redis.call('HMGET', KEYS[1], 'v', 'by', 'count')
if not v[1] then
  return {0, 0}
end
if v[1] ~= '1' then
  return redis.error_reply('FORMAT the tray is not of format 1')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = tonumber(v[3] or '0')
local first = 10 + 3 * ARGV[9]
for i = 10, first - 1, 3 do
  redis.call('HSET', KEYS[1], 'thread:' .. ARGV[i], string.format('%.0f;%s', now + ARGV[i + 2], ARGV[i + 1]))
end
for i = first, #ARGV do
  if redis.call('HDEL', KEYS[1], 'letter:' .. ARGV[i]) == 1 then
    count = count - 1
  end
  redis.call('HSET', KEYS[1], 'done:' .. ARGV[i], string.format('%.0f', now + ARGV[4]))
end
local code, keep = 2, 2 * ARGV[4]
if v[2] == ARGV[1] then
  code = 1
  redis.call('HSET', KEYS[1], 'attempts', ARGV[5], 'window', ARGV[6], 'sent', ARGV[7], 'parcel', ARGV[8])
  if ARGV[2] == '1' then
    redis.call('HSET', KEYS[1], 'lease', '0', 'due', string.format('%.0f', now + ARGV[3]))
  end
end
redis.call('HSET', KEYS[1], 'count', count)
if #ARGV >= first or count == 0 then
  local oldest, all = now, redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 5) == 'done:' and tonumber(all[i + 1]) <= now then
      redis.call('HDEL', KEYS[1], all[i])
    elseif string.sub(all[i], 1, 7) == 'thread:' then
      local till = tonumber(string.match(all[i + 1], '^(%d+);') or '0')
      if till <= now then
        redis.call('HDEL', KEYS[1], all[i])
      else
        keep = math.max(keep, till - now)
      end
    elseif string.sub(all[i], 1, 7) == 'letter:' then
      oldest = math.min(oldest, tonumber(string.match(all[i + 1], '^(%d+);') or now))
    end
  end
  redis.call('HSET', KEYS[1], 'oldest', string.format('%.0f', oldest))
end
if count == 0 then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', keep))
end
return {code, count}
