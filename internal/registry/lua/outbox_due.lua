-- Examines some mails of an outbox, at a cost that does not grow with it, and moves settled mails that earlier
-- versions left there.
--
-- KEYS[1] HASH  outbox: mail id -> entry, see outbox_claim.lua
-- KEYS[2] ZSET  settled: mail id -> when the entry is removed, ms
-- ARGV[1] where to begin: 0, or the cursor that the last call returned
-- ARGV[2] about how many entries to examine
--
-- Returns {cursor, waiting, oldest, id...}: where to continue, 0 at the end; how many wait; since when the most
-- overdue of them has been due, ms, 0 for none; and the ids of waiting mails that are due, are not claimed and
-- need not let another leave first, the most overdue first. Entries of another version are left out and stay.
--
-- Atomic: a mail that is settled is in one place at a time.
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local all = page[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local waiting, oldest, due, moved = 0, 0, {}, false
for i = 1, #all, 2 do
  local state, ms, lease, after = string.match(all[i + 1], '^1;(%a);(%d+);(%d+);[^;]*;%d+;([^;]*);')
  ms = tonumber(ms)
  if state == 'w' then
    waiting = waiting + 1
    if ms <= now then
      if oldest == 0 or ms < oldest then
        oldest = ms
      end
      if tonumber(lease) <= now and (after == '' or string.sub(redis.call('HGET', KEYS[1], after) or '', 1, 4) ~= '1;w;') then
        due[#due + 1] = {id = all[i], ms = ms}
      end
    end
  elseif state then
    redis.call('HDEL', KEYS[1], all[i])
    if ms > now then
      redis.call('ZADD', KEYS[2], string.format('%.0f', ms), all[i])
      moved = true
    end
  end
end
if moved then
  local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  redis.call('PEXPIRE', KEYS[2], string.format('%.0f', tonumber(last[2]) - now))
end
table.sort(due, function(a, b)
  if a.ms ~= b.ms then
    return a.ms < b.ms
  end
  return a.id < b.id
end)
local out = {page[1], waiting, oldest}
for _, e in ipairs(due) do
  out[#out + 1] = e.id
end
return out
