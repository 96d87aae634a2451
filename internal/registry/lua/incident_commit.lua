-- Writes one step of an endpoint's incident: the new state, its mails and, if the incident ended, its entry in
-- the history.
--
-- KEYS[1] HASH  incidents: endpoint -> state
-- KEYS[2] HASH  outbox: mail id -> entry
-- KEYS[3] ZSET  history: ended incident, by the time it ended in ms
-- KEYS[4] ZSET  settled: mail id -> when the entry is removed, ms
-- KEYS[5] HASH  reports: endpoint -> "1;<total>;<taken>;<ok>;<newest failure>"; only when taken
-- KEYS[6] SET   tenants whose calls failed; only with KEYS[5]
-- ARGV[1] endpoint
-- ARGV[2] the state that was read, empty for none
-- ARGV[3] the new state, empty for none
-- ARGV[4] the ended incident, empty for none
-- ARGV[5] when it ended, ms
-- ARGV[6] how long the history keeps, ms
-- ARGV[7] how many the history keeps
-- ARGV[8..11] what was read of the reports: total, taken, ok; 1 when nothing of them is to be kept, since
--           nothing is wrong. Empty without KEYS[5]
-- ARGV[12..] per mail: id, id of the mail that must leave first or empty, mail
--
-- Returns 1 when written, also by an earlier run of the same step; 0 when the state differs from the one that
-- was read.
--
-- Atomic: a transition, its mails and the mark of its reports are written together or not at all. A mail that
-- is in the outbox, or was sent a short while ago, is not written again.
local current = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if current ~= ARGV[2] and current ~= ARGV[3] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
for i = 12, #ARGV, 3 do
  if not redis.call('ZSCORE', KEYS[4], ARGV[i]) then
    redis.call('HSETNX', KEYS[2], ARGV[i], string.format('1;w;%.0f;0;;0;%s;%s', now, ARGV[i + 1], ARGV[i + 2]))
  end
end
if KEYS[5] then
  local a, b, ok, doc = string.match(redis.call('HGET', KEYS[5], ARGV[1]) or '', '^1;(%d+);(%d+);([%d-]+);(.*)$')
  local total = tonumber(a or '-1')
  if total >= tonumber(ARGV[8]) and b == ARGV[9] then
    if ok == ARGV[10] then
      ok = '-'
    end
    if a == ARGV[8] and ok == '-' and ARGV[11] == '1' then
      redis.call('HDEL', KEYS[5], ARGV[1])
      redis.call('UNLINK', KEYS[6])
    else
      redis.call('HSET', KEYS[5], ARGV[1], '1;' .. a .. ';' .. ARGV[8] .. ';' .. ok .. ';' .. doc)
    end
  end
end
if ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[3], ARGV[5], ARGV[4])
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', string.format('(%.0f', now - ARGV[6]))
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[7])
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
end
return 1
