-- wake: added behind the prelude to the scripts that end by arming a wake-up. It uses their KEYS and ARGV, and
-- is atomic with them; what wake returns is described there.

-- first returns the lowest score of a sorted set, or nil.
local function first(key)
  local r = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return r[2] and tonumber(r[2])
end

-- wake arms the next wake-up if one is needed and none is armed early enough.
--   by       the caller: a repeat by the same one gets the same answer while that wake-up is armed
--   horizon  ms: nothing is armed further ahead; the sweep arms it when it comes near
--   grace    ms: how long an armed wake-up may be late before it counts as lost
-- Returns the generation and in how many ms it is due, as strings; '0', '0' when there is nothing to enqueue.
local function wake(by, horizon, grace)
  local b = redis.call('HMGET', BOX, 'lby', 'lgen', 'lat', 'off', 'oexp', 'gate', 'wexp', 'wat', 'fexp', 'fat', 'gen', 'wgen', 'fgen')
  local w, f = num(b[7]) > now, num(b[9]) > now
  local gen, delay = '0', '0'
  if b[1] == by and (w and b[12] == b[2] or f and b[13] == b[2]) then
    gen, delay = b[2], int(math.max(0, num(b[3]) - now))
  end
  if b[4] or num(b[5]) > now then return gen, delay end
  local d, l = first(DUE), first(FLIGHT)
  local nearest = d and l and math.min(d, l) or d or l
  if not nearest then return gen, delay end
  local at = math.max(nearest, now, num(b[6]))
  if at > now + horizon then return gen, delay end
  if w and num(b[8]) <= at or f and num(b[10]) <= at then return gen, delay end
  local new = b[11] and tonumber(b[11]) + 1 or now
  local slot = at <= now and 'w' or 'f'
  redis.call('HSET', BOX, 'gen', int(new), slot .. 'gen', int(new), slot .. 'at', int(at), slot .. 'exp', int(at + grace),
    'lby', by, 'lgen', int(new), 'lat', int(at), 'format', '1')
  return int(new), int(at - now)
end
