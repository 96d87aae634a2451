-- Takes or renews the lease of a loop, and writes its progress.
--
-- KEYS[1] STR  lease: the holder
-- KEYS[2] HASH progress of the loop: cursor, began (ms), faults, completed (ms), note
-- ARGV[1] the caller
-- ARGV[2] ms for which the lease is taken
-- ARGV[3] what to write: '' nothing, 'step' a step that was done, 'end' the end of a round
-- ARGV[4..7] cursor, began, faults, note; only with something to write
--
-- Returns {held, now, cursor, began, faults, completed, note}: 1 when the caller held the lease before and
-- still does, 2 when it got it now, 0 when another has it; Redis's time, ms; and the stored progress of the
-- loop.
--
-- Atomic: only the holder writes. A caller whose lease had expired and who gets it again writes nothing:
-- another may have continued from the same place. A round that ends without a fault is complete.
local holder = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = not holder or holder == ARGV[1]
if held then
  -- After a first write that needs no memory the script runs to its end although Redis is at maxmemory: the loops
  -- wake what frees memory, and must not wait for it.
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
if holder == ARGV[1] and ARGV[3] ~= '' then
  redis.call('HSET', KEYS[2], 'cursor', ARGV[4], 'began', ARGV[5], 'faults', ARGV[6])
  if ARGV[3] == 'end' then
    redis.call('HSET', KEYS[2], 'note', ARGV[7])
    if ARGV[6] == '0' then
      redis.call('HSET', KEYS[2], 'completed', string.format('%.0f', now))
    end
    redis.call('HDEL', KEYS[2], 'faults')
  end
end
local f = redis.call('HMGET', KEYS[2], 'cursor', 'began', 'faults', 'completed', 'note')
return {holder == ARGV[1] and 1 or held and 2 or 0, now, f[1] or '', f[2] or '', f[3] or '', f[4] or '', f[5] or ''}
