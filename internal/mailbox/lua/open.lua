-- open: ends the cool-down of an open circuit at once, because a test saw the endpoint answer.
--
-- ARGV  1 birth, 2 nonce, 3 horizon ms, 4 grace ms
-- Returns {generation, in ms}
-- Atomic: the circuit, the epoch, the first page of what is recalled, and the wake-up. The next drainer still
-- has to probe the endpoint; a run that began before may no longer open the circuit. What failed until now is
-- due at once. A repeat does the same again, which does no harm.
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
