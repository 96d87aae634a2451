-- switch: sets whether the mailbox's endpoint is on; the sweep calls it for every app.
--
-- ARGV  1 birth, 2 nonce, 3 registry revision, 4 on ('1'/'0'), 5 revision at which the endpoint's URL or
--       switch last changed, 6 horizon ms, 7 grace ms, 8 newer ('1': only if the registry revision is
--       newer than the last one applied, as the sweep does)
-- Returns {generation, in ms}
-- Atomic: the switch, the circuit, the epoch, the first page of what is recalled, and the wake-up.
--
-- A revision older than the last one is ignored. If an endpoint is switched on, or is on and was changed, that is an
-- opening: its cool-down ends at once, it is probed again, and a run that began before may no longer open the
-- circuit. What failed until then is due at once. A mailbox that an older version wrote knows no revision of its
-- endpoint and accepts the given one.
local nonce, rev, on, changed = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
local b = redis.call('HMGET', BOX, 'srev', 'off', 'gate', 'erev', 'epoch', 'format', 'birth')
local refused = guard(b[6], b[7])
if refused then return refused end
settle()
local last = num(b[1])
if rev > last or (rev == last and ARGV[8] ~= '1') then
  if on then
    redis.call('HDEL', BOX, 'off')
    if b[2] then redis.call('HSET', BOX, 'held', int(now)) end
    if b[2] or b[4] and changed > num(b[4]) then
      redis.call('HSET', BOX, 'epoch', more(b[5]))
      if b[3] then redis.call('HSET', BOX, 'gate', int(math.min(num(b[3]), now)), 'gopen', '0') end
      redis.call('HDEL', BOX, 'probes', 'refusing')
      begin_recall('0')
      recall()
    end
  else
    redis.call('HSET', BOX, 'off', ARGV[3])
  end
  redis.call('HSET', BOX, 'srev', ARGV[3], 'erev', int(math.max(changed, num(b[4]))), 'format', '1')
  redis.call('HDEL', BOX, 'ended')
  redis.call('PERSIST', BOX)
  redis.call('PERSIST', FLIGHT)
end
local gen, delay = wake(nonce, tonumber(ARGV[6]), tonumber(ARGV[7]))
return {gen, delay}
