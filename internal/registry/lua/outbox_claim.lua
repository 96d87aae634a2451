-- Claims a mail for sending, so that no two senders send it at once.
--
-- KEYS[1] HASH  outbox: mail id -> "1;w;<ms>;<lease ms>;<by>;<attempts>;<after>;<body>", of mails that wait
--               ms: when it may be tried. Earlier versions also keep settled mails here, with the states
--               s sent and f failed and ms when the entry is removed; outbox_due.lua moves them
-- KEYS[2] ZSET  settled: id of a mail that was sent or failed permanently -> when the entry is removed, ms
-- ARGV[1] mail id
-- ARGV[2] by: names this claim; a repeat of the call with the same name gets the same answer
-- ARGV[3] lease, ms
--
-- Returns {code, attempts, ms, body}: 1 claimed (ms: end of the lease), 0 no such mail, 2 settled, 3 claimed by
-- another (ms: end of that lease), 4 not due yet (ms: when), because of its own time or because an earlier mail
-- of the same incident to the same recipient has not left.
-- Error FORMAT: the entry is of another version and stays untouched.
--
-- Atomic: reading and claiming are one step.
local function read(id)
  local text = redis.call('HGET', KEYS[1], id)
  if not text then
    return nil
  end
  local state, ms, lease, by, attempts, after, body = string.match(text, '^1;(%a);(%d+);(%d+);([^;]*);(%d+);([^;]*);(.*)$')
  if not state then
    return nil, redis.error_reply('FORMAT the outbox entry is not of format 1')
  end
  return {state = state, ms = tonumber(ms), lease = tonumber(lease), by = by, attempts = tonumber(attempts), after = after, body = body}
end

local e, bad = read(ARGV[1])
if bad then
  return bad
end
if not e then
  return {redis.call('ZSCORE', KEYS[2], ARGV[1]) and 2 or 0, 0, 0, ''}
end
if e.state ~= 'w' then
  return {2, e.attempts, 0, ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if e.lease > now then
  if e.by == ARGV[2] then
    return {1, e.attempts, e.lease, e.body}
  end
  return {3, e.attempts, e.lease, ''}
end
if e.ms > now then
  return {4, e.attempts, e.ms, ''}
end
if e.after ~= '' then
  local first, unreadable = read(e.after)
  if unreadable then
    return unreadable
  end
  if first and first.state == 'w' then
    return {4, e.attempts, math.max(first.ms, first.lease), ''}
  end
end
local lease = now + ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], string.format('1;w;%.0f;%.0f;%s;%d;%s;%s', e.ms, lease, ARGV[2], e.attempts + 1, e.after, e.body))
return {1, e.attempts + 1, lease, e.body}
