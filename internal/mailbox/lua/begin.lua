-- begin: a drainer takes the mailbox.
--
-- ARGV  1 birth, 2 token, 3 generation that woke it, 4 owner lease ms, 5 horizon ms, 6 grace ms
-- Returns {'owner', probes, openings, held ms, sole, refusing, recall}: probes is how many tenants may be tried to
--         prove the endpoint, since a gate was closed and has run out, '0' where nothing is to be proved; openings counts
--         how often in a row the gate closed; what was deposited up to held met a closed gate or an endpoint that
--         was off; sole is '1' where one tenant is all that approved; refusing is '1' where the gate closed on an endpoint that
--         refused nearly all; recall is '1' where entries wait to be recalled
--       | {'off'} | {'busy'} | {'gated', generation, in ms}: leave, and enqueue that wake-up unless '0'
-- A gate that closed because the endpoint asked for a pause proves nothing and is forgotten when it has run out.
-- Atomic: consuming the generation, the ownership or the next wake-up, and the epoch that the owner begins in: a
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
