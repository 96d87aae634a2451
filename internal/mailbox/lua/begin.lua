-- begin: a drainer takes the mailbox.
--
-- ARGV  1 birth, 2 token, 3 generation that woke it, 4 owner lease ms, 5 horizon ms, 6 grace ms
-- Returns {'owner', probes, openings, held ms, sole, refusing, recall}: probes is how many tenants may be tried as
--         probes, since the circuit was opened and the cool-down is over, '0' if no probe is needed; openings is
--         how often in a row the circuit opened; what was deposited up to held met an open circuit or an endpoint
--         that was off; sole is '1' if only one tenant has approved; refusing is '1' if the circuit opened on an
--         endpoint that refused nearly all; recall is '1' if entries wait to be recalled
--       | {'off'} | {'busy'} | {'gated', generation, in ms}: stop, and enqueue that wake-up unless it is '0'
-- A circuit that opened because the endpoint asked for a pause needs no probe, and closes when the cool-down is over.
-- Atomic: consuming the generation, the ownership or the next wake-up, and the epoch in which the owner begins: a
-- repeat, or a late copy, keeps the first one's.
local token, gen, lease = ARGV[2], ARGV[3], tonumber(ARGV[4])
local b = redis.call('HMGET', BOX, 'wgen', 'fgen', 'off', 'owner', 'oexp', 'gate', 'gopen', 'held', 'epoch', 'oepoch', 'format', 'birth', 'probes',
  'refusing', 'recall')
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
local probes = b[6] and (b[13] or '1') or '0'
if b[6] and probes == '0' then redis.call('HDEL', BOX, 'gate', 'probes') end
local sole = redis.call('HLEN', TENANTS) == 1
return {'owner', probes, b[7] or '0', held, sole and '1' or '0', b[14] and '1' or '0', b[15] and '1' or '0'}
