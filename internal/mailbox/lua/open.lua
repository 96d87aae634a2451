-- open: lets a closed gate run out at once, because somebody saw the endpoint answer.
--
-- ARGV  1 birth, 2 nonce, 3 horizon ms, 4 grace ms
-- Returns {generation, in ms}
-- Atomic: the gate, the epoch and the wake-up. The next drainer still proves the endpoint with one entry first;
-- a run that goes on since before may not close the gate any more. A repeat opens again, which harms nobody.
settle()
raise('epoch')
if num(redis.call('HGET', BOX, 'gate')) > now then
  redis.call('HSET', BOX, 'gate', int(now), 'gopen', '0')
end
local gen, delay = wake(ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]))
return {gen, delay}
