-- Stores what engines report about one endpoint of an app: failed calls, and successes after them.
--
-- KEYS[1] HASH   reports: endpoint -> "1;<total>;<taken>;<ok>;<newest failure>"
-- KEYS[2] SET    tenants whose calls failed since the trouble began
-- KEYS[3] HASH   incidents: endpoint -> state
-- KEYS[4] STRING bitmap of the lines of an idempotency key that are stored; only with a key
-- ARGV[1] endpoint
-- ARGV[2] how many tenants are stored
-- ARGV[3] how long the bitmap is kept, ms
-- ARGV[4..] per report: line, tenant, the failure or empty for a success; 500 at most
--
-- total counts the failures ever reported, taken those of them that the incident includes; ok is how many there
-- were at the newest success that the incident does not include, "-" for none.
--
-- Returns a list with 1 per report that was stored now, 0 per one that was stored before.
--
-- Atomic: a line counts once, and all reports of a call are stored or none. A success that follows no failure
-- changes nothing.
local total, taken, ok, doc = 0, 0, '-', ''
local record = redis.call('HGET', KEYS[1], ARGV[1])
if record then
  local a, b, c, d = string.match(record, '^1;(%d+);(%d+);([%d-]+);(.*)$')
  if not a then
    return redis.error_reply('FORMAT the stored reports are not of format 1')
  end
  total, taken, ok, doc = tonumber(a), tonumber(b), c, d
end
local trouble = redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1
local fresh, changed, failed = {}, false, {}
for i = 4, #ARGV, 3 do
  local new = 1
  if KEYS[4] then
    new = 1 - redis.call('SETBIT', KEYS[4], ARGV[i], 1)
  end
  if new == 1 and ARGV[i + 2] ~= '' then
    total, doc, changed = total + 1, ARGV[i + 2], true
    failed[#failed + 1] = ARGV[i + 1]
  elseif new == 1 and (trouble or total > taken) then
    ok, changed = string.format('%.0f', total), true
  end
  fresh[#fresh + 1] = new
end
local room, at = tonumber(ARGV[2]) - redis.call('SCARD', KEYS[2]), 1
while room > 0 and at <= #failed do
  local last = math.min(#failed, at + room - 1)
  room = room - redis.call('SADD', KEYS[2], unpack(failed, at, last))
  at = last + 1
end
if KEYS[4] then
  redis.call('PEXPIRE', KEYS[4], ARGV[3])
end
if changed then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('1;%.0f;%.0f;%s;%s', total, taken, ok, doc))
end
return fresh
