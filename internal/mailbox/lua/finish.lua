-- finish: a drainer gives the mailbox back.
--
-- ARGV  1 token, 2 force ('1': even with work left), 3 gate ms (how long the gate closes, 0 leaves it),
--       4 revision that switched the endpoint off ('' for none), 5 horizon ms, 6 grace ms
-- Returns {'lost'} | {'more'}: work is due, still the owner | {'done', generation, in ms}
-- Atomic: giving up, the gate, the switch and the next wake-up.
settle()
local token, horizon, grace = ARGV[1], tonumber(ARGV[5]), tonumber(ARGV[6])
local b = redis.call('HMGET', BOX, 'owner', 'lby', 'off', 'gopen', 'srev')
if b[1] ~= token then
  if b[2] == token then
    local g, delay = wake(token, horizon, grace)
    return {'done', g, delay}
  end
  return {'lost'}
end
local gate, off = tonumber(ARGV[3]), ARGV[4]
if ARGV[2] ~= '1' and gate == 0 and off == '' and not b[3] then
  local d, f = first(DUE), first(FLIGHT)
  if d and d <= now or f and f <= now then return {'more'} end
end
redis.call('HDEL', BOX, 'owner', 'oexp')
if gate > 0 then redis.call('HSET', BOX, 'gate', int(now + gate), 'gopen', int(num(b[4]) + 1)) end
if off ~= '' and tonumber(off) >= num(b[5]) then redis.call('HSET', BOX, 'off', off, 'srev', off) end
local g, delay = wake(token, horizon, grace)
return {'done', g, delay}
