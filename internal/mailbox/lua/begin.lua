-- begin: a drainer takes the mailbox.
--
-- ARGV  1 birth, 2 token, 3 generation that woke it, 4 owner lease ms, 5 horizon ms, 6 grace ms
-- Returns {'owner', probe, openings, held ms}: probe is '1' when a gate was closed and has run out, so
--         that one entry must prove the endpoint first; openings counts how often in a row the gate
--         closed; what was deposited up to held met a closed gate or an endpoint that was off
--       | {'off'} | {'busy'} | {'gated', generation, in ms}: leave, and enqueue that wake-up unless '0'
-- Atomic: consuming the generation, the ownership or the next wake-up, and the epoch that the owner begins in: a
-- repeat, or a late copy, keeps the first one's.
local token, gen, lease = ARGV[2], ARGV[3], tonumber(ARGV[4])
local b = redis.call('HMGET', BOX, 'wgen', 'fgen', 'off', 'owner', 'oexp', 'gate', 'gopen', 'held', 'epoch', 'oepoch', 'format', 'birth')
local refused = guard(b[11], b[12])
if refused then return refused end
settle()
if b[1] == gen then redis.call('HDEL', BOX, 'wgen', 'wat', 'wexp') end
if b[2] == gen then redis.call('HDEL', BOX, 'fgen', 'fat', 'fexp') end
if b[3] then return {'off'} end
if num(b[5]) > now and b[4] ~= token then return {'busy'} end
if num(b[6]) > now then
  local g, delay = wake(token, tonumber(ARGV[5]), tonumber(ARGV[6]))
  return {'gated', g, delay}
end
local held = b[6] and int(now) or b[8] or '0'
local epoch = b[4] == token and b[10] or b[9] or '0'
redis.call('HSET', BOX, 'owner', token, 'oexp', int(now + lease), 'held', held, 'oepoch', epoch, 'format', '1')
return {'owner', b[6] and '1' or '0', b[7] or '0', held}
