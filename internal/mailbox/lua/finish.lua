-- finish: a drainer gives the mailbox back.
--
-- ARGV  1 birth, 2 token, 3 force ('1': even with work left), 4 gate ms (how long the circuit opens, 0 leaves
--       it), 5 revision that switched the endpoint off ('' for none), 6 horizon ms, 7 grace ms, 8 how many tenants
--       may be tried as probes once the cool-down is over, 0 if the endpoint only asked for a pause, 9 since
--       when it has refused nearly all ('' if it has not): what failed since then is recalled once it accepts
--       something
-- Returns {'lost'}
--       | {'more'}: work is due and the caller is still the owner; an outdated owner never gets this
--       | {'done', generation, in ms, outdated}: outdated is '1' if the endpoint was changed, switched on, resumed
--       or tested since the owner began, so that neither circuit nor switch was changed
-- Atomic: giving up ownership, the circuit, the switch and the next wake-up.
local token, horizon, grace = ARGV[2], tonumber(ARGV[6]), tonumber(ARGV[7])
local b = redis.call('HMGET', BOX, 'owner', 'lby', 'off', 'gopen', 'srev', 'epoch', 'oepoch', 'lout', 'format', 'birth')
local refused = guard(b[9], b[10])
if refused then return refused end
settle()
if b[1] ~= token then
  if b[2] == token then
    local g, delay = wake(token, horizon, grace)
    return {'done', g, delay, b[8] == token and '1' or '0'}
  end
  return {'lost'}
end
local gate, off = tonumber(ARGV[4]), ARGV[5]
local outdated = (b[6] or '0') ~= (b[7] or '0')
if outdated then
  gate, off = 0, ''
  redis.call('HSET', BOX, 'lout', token) -- for a repeat
end
if ARGV[3] ~= '1' and not outdated and gate == 0 and off == '' and not b[3] then
  local d, f = first(DUE), first(FLIGHT)
  if d and d <= now or f and f <= now then return {'more'} end
end
redis.call('HDEL', BOX, 'owner', 'oexp')
if gate > 0 then
  redis.call('HSET', BOX, 'gate', int(now + gate), 'probes', ARGV[8])
  if ARGV[8] ~= '0' then redis.call('HSET', BOX, 'gopen', int(num(b[4]) + 1)) end
  if ARGV[9] ~= '' then redis.call('HSET', BOX, 'refusing', ARGV[9]) end
end
if off ~= '' and tonumber(off) >= num(b[5]) then redis.call('HSET', BOX, 'off', off, 'srev', off, 'erev', off) end
local g, delay = wake(token, horizon, grace)
return {'done', g, delay, outdated and '1' or '0'}
