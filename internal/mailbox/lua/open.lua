-- open: lets a closed gate run out at once, because somebody saw the endpoint answer.
--
-- ARGV  1 birth, 2 nonce, 3 horizon ms, 4 grace ms
-- Returns {generation, in ms}
-- Atomic: the gate, the epoch, the first page of what is recalled, and the wake-up. The next drainer still proves the
-- endpoint first; a run that goes on since before may not close the gate any more. What failed until now is due at once. A
-- repeat opens again, which harms nobody.
local b = redis.call('HMGET', BOX, 'epoch', 'gate', 'format', 'birth')
local refused = guard(b[3], b[4])
if refused then return refused end
settle()
if num(b[2]) > now then
  redis.call('HSET', BOX, 'epoch', more(b[1]), 'gate', int(now), 'gopen', '0')
else
  redis.call('HSET', BOX, 'epoch', more(b[1]))
end
redis.call('HDEL', BOX, 'probes', 'refusing')
begin_recall('0')
recall()
local gen, delay = wake(ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]))
return {gen, delay}
