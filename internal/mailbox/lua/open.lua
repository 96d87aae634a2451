-- open: lets a closed gate run out at once, because somebody saw the endpoint answer.
--
-- ARGV  1 nonce, 2 horizon ms, 3 grace ms
-- Returns {generation, in ms}
-- Atomic: the gate and the wake-up. The next drainer still proves the endpoint with one entry first.
settle()
if num(redis.call('HGET', BOX, 'gate')) > now then
  redis.call('HSET', BOX, 'gate', int(now), 'gopen', '0')
end
local gen, delay = wake(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]))
return {gen, delay}
