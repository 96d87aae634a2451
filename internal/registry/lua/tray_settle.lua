-- Writes the result of sending from a claimed mail queue.
--
-- KEYS[1] HASH  mail queue, see tray_put.lua
-- ARGV[1] by: the claim's name
-- ARGV[2] release: 1 releases the claim, 0 keeps it
-- ARGV[3] ms from now until it may be claimed again
-- ARGV[4] how long the id of a mail that left is kept, ms
-- ARGV[5..8] attempts, window, sent, batch: the new values
-- ARGV[9] when the oldest remaining mail arrived, ms; 0 when all that wait arrived since the queue was read
-- ARGV[10] about how many fields to examine for expired ones
-- ARGV[11] how long threads are kept that an earlier version wrote, ms
-- ARGV[12] how many threads follow, each as incident id, Message-ID and how long it is kept, ms
-- ARGV[..] then the ids of the mails that leave the queue
--
-- Returns {code, left}: 1 written, also by an earlier run of the same call; 2 another has the claim: only the
-- leaving was written, since sent mails always count; 0 no such queue. left is how many mails remain. Error
-- FORMAT: the queue is of another version and stays unchanged.
--
-- Atomic: comparison and writing are one step. The id of a mail that left is kept for a while, so that a late
-- repeat of adding it finds it. Threads are written even if another has the claim by now, because they belong
-- to mails that were sent. Each call removes some expired fields, and the next one continues there.
local v = redis.call('HMGET', KEYS[1], 'v', 'by', 'count', 'till', 'scan')
if not v[1] then
  return {0, 0}
end
if v[1] ~= '1' then
  return redis.error_reply('FORMAT the mail queue is not of format 1')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = tonumber(v[3] or '0')
local till = math.max(tonumber(v[4] or string.format('%.0f', now + ARGV[11])), now + 2 * ARGV[4])
local first = 13 + 3 * ARGV[12]
for i = 13, first - 1, 3 do
  local forgotten = now + ARGV[i + 2]
  redis.call('HSET', KEYS[1], 'thread:' .. ARGV[i], string.format('%.0f;%s', forgotten, ARGV[i + 1]))
  till = math.max(till, forgotten)
end
for i = first, #ARGV do
  if redis.call('HDEL', KEYS[1], 'letter:' .. ARGV[i]) == 1 then
    count = count - 1
  end
  redis.call('HSET', KEYS[1], 'done:' .. ARGV[i], string.format('%.0f', now + ARGV[4]))
end
local code = 2
if v[2] == ARGV[1] then
  code = 1
  local oldest = tonumber(ARGV[9])
  redis.call('HSET', KEYS[1], 'attempts', ARGV[5], 'window', ARGV[6], 'sent', ARGV[7], 'parcel', ARGV[8],
    'oldest', string.format('%.0f', oldest > 0 and oldest or now))
  if ARGV[2] == '1' then
    redis.call('HSET', KEYS[1], 'lease', '0', 'due', string.format('%.0f', now + ARGV[3]))
  end
end
redis.call('HSET', KEYS[1], 'count', count)
if #ARGV >= first or count == 0 then
  local page = redis.call('HSCAN', KEYS[1], v[5] or '0', 'COUNT', ARGV[10])
  local all = page[2]
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 5) == 'done:' then
      if tonumber(all[i + 1]) <= now then
        redis.call('HDEL', KEYS[1], all[i])
      end
    elseif string.sub(all[i], 1, 7) == 'thread:' then
      local forgotten = tonumber(string.match(all[i + 1], '^(%d+);') or '0')
      if forgotten <= now then
        redis.call('HDEL', KEYS[1], all[i])
      end
      till = math.max(till, forgotten)
    end
  end
  redis.call('HSET', KEYS[1], 'scan', page[1])
end
redis.call('HSET', KEYS[1], 'till', string.format('%.0f', till))
if count == 0 then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', till - now))
end
return {code, count}
