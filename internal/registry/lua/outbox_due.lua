-- Lists the mails that may be sent now, and forgets settled ones whose time is over.
--
-- KEYS[1] HASH  outbox: mail id -> entry, see outbox_claim.lua
-- ARGV[1] how many to list
--
-- Returns the ids of mails that wait, are due, are claimed by nobody and need not let another
-- leave first; the longest due first. Entries of another version are left out and alone.
--
-- Atomic: one view of the whole outbox.
local all = redis.call('HGETALL', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local waiting, ready = {}, {}
for i = 1, #all, 2 do
  local state, ms, lease, after = string.match(all[i + 1], '^1;(%a);(%d+);(%d+);[^;]*;%d+;([^;]*);')
  if state == 'w' then
    waiting[all[i]] = true
    if tonumber(ms) <= now and tonumber(lease) <= now then
      ready[#ready + 1] = {id = all[i], ms = tonumber(ms), after = after}
    end
  elseif state and tonumber(ms) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  end
end
table.sort(ready, function(a, b)
  if a.ms ~= b.ms then
    return a.ms < b.ms
  end
  return a.id < b.id
end)
local due = {}
for _, e in ipairs(ready) do
  if #due >= tonumber(ARGV[1]) then
    break
  end
  if not waiting[e.after] then
    due[#due + 1] = e.id
  end
end
return due
