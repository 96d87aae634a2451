-- switch: tells the mailbox how its endpoint is set; the sweep calls it for every app.
--
-- ARGV  1 birth, 2 nonce, 3 registry revision, 4 on ('1'/'0'), 5 revision at which the endpoint's URL or
--       switch last changed, 6 horizon ms, 7 grace ms, 8 newer ('1': only when the registry revision is
--       newer than the last one told, as the sweep asks)
-- Returns {generation, in ms}
-- Atomic: the switch, the gate, the epoch, the first page of what is recalled, and the wake-up.
--
-- An older revision than the last is ignored. An endpoint that is switched on, or is on and was changed, is
-- opened: its gate runs out at once, it is proved anew, and a run that goes on since before may not close
-- the gate any more. What failed until then is due at once. A mailbox that an older version wrote knows no revision of its endpoint and takes it over.
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
