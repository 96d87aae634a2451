-- switch: tells the mailbox whether its endpoint is on; the sweep calls it for every app.
--
-- ARGV  1 nonce, 2 registry revision, 3 on ('1'/'0'), 4 horizon ms, 5 grace ms,
--       6 newer ('1': only when the revision is newer than the last one told, as the sweep asks)
-- Returns {generation, in ms}
-- Atomic: the switch and the wake-up.
--
-- An older revision than the last is ignored. Switching on lets the gate run out at once: one entry
-- proves the endpoint. A mailbox that was set to expire (its app was deleted and is back) stays.
settle()
local nonce, rev, on = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local b = redis.call('HMGET', BOX, 'srev', 'off', 'gate')
local last = num(b[1])
if rev > last or (rev == last and ARGV[6] ~= '1') then
  if on then
    redis.call('HDEL', BOX, 'off')
    if b[2] then redis.call('HSET', BOX, 'held', int(now)) end
    if b[2] and num(b[3]) > now then redis.call('HSET', BOX, 'gate', int(now), 'gopen', '0') end
  else
    redis.call('HSET', BOX, 'off', ARGV[2])
  end
  redis.call('HSET', BOX, 'srev', ARGV[2], 'format', '1')
  redis.call('PERSIST', BOX)
  redis.call('PERSIST', FLIGHT)
end
local gen, delay = wake(nonce, tonumber(ARGV[4]), tonumber(ARGV[5]))
return {gen, delay}
