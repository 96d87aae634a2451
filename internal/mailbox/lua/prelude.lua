-- prelude: prepended to every script of the mailbox.
--
-- KEYS of every script, all in one app's hash slot:
--   1 tenants  HASH  tenant -> "<known>" or "<known>*"; the field's presence is the approval
--   2 waiting  HASH  "<tenant>|<slot>" -> "<seq>;<version>;<attempts>;<superseded>;<first ms>;<change>"
--   3 due      ZSET  tenant -> earliest claim time, ms; has entries, not in flight
--   4 flight   ZSET  tenant -> end of its claim's lease, ms
--   5 mailbox  HASH  the mailbox's own state, format 1
-- ARGV[1] of every script: the birth of the app that the caller means, '' where it only reads. Where the
-- mailbox belongs to another life, nothing is written: error GONE when it is a later one, UNBORN when it
-- is an earlier one, which life.lua ends.
-- Time is Redis's own, in milliseconds.
local TENANTS, WAITING, DUE, FLIGHT, BOX = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local SLOTS = {'status', 'move', 'restore'}

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- int writes a number as Redis and Go read it: Lua's own tostring loses digits above 1e14.
local function int(n) return string.format('%.0f', n) end

local function num(v) return tonumber(v or '') or 0 end

-- entries reads a tenant's waiting entries: one value or false per slot.
local function entries(t)
  return redis.call('HMGET', WAITING, t .. '|status', t .. '|move', t .. '|restore')
end

-- entriesOf reads the waiting entries of many tenants: at each one's index, as entries does.
local function entriesOf(ts)
  local fields, out = {}, {}
  for i, t in ipairs(ts) do
    fields[3 * i - 2], fields[3 * i - 1], fields[3 * i] = t .. '|status', t .. '|move', t .. '|restore'
  end
  if #fields == 0 then return out end
  local flat = redis.call('HMGET', WAITING, unpack(fields))
  for i = 1, #ts do out[i] = {flat[3 * i - 2], flat[3 * i - 1], flat[3 * i]} end
  return out
end

local function vacant(e) return not (e[1] or e[2] or e[3]) end

-- first returns the lowest score of a sorted set, or nil.
local function first(key)
  local r = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return r[2] and tonumber(r[2])
end

-- guard refuses a mailbox that a newer version wrote, or with a birth that nobody wrote, and one of another life.
local format, birth = unpack(redis.call('HMGET', BOX, 'format', 'birth'))
if format and format ~= '1' then
  return redis.error_reply('FORMAT mailbox has format ' .. format .. ', this version knows 1')
end
if birth and not (#birth < 16 and string.find(birth, '^%d+$')) then
  return redis.error_reply('FORMAT mailbox has an unreadable birth')
end
if ARGV[1] ~= '' then
  local caller, own = tonumber(ARGV[1]), num(birth)
  if caller < own then
    return redis.error_reply('GONE mailbox belongs to a later life of the app, of ' .. birth)
  elseif caller > own then
    return redis.error_reply('UNBORN mailbox belongs to an earlier life of the app')
  end
end

-- settle lets the rest of the script write although Redis is at maxmemory: after a first write that
-- needs no memory, a script runs to its end. What empties a mailbox must not wait for memory.
local function settle() redis.call('HDEL', BOX, '') end

-- raise counts one more in a field of the mailbox; what is no number there counts as none.
local function raise(field)
  local n = redis.call('HGET', BOX, field) or ''
  redis.call('HSET', BOX, field, int(#n < 16 and string.find(n, '^%d+$') and n + 1 or 1))
end

-- wake arms the next wake-up where one is needed and none is armed early enough.
--   by       who asks: a repeat by the same gets the same answer while that wake-up is armed
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
