-- prelude: the beginning of every script of the mailbox; entries.lua and wake.lua follow in those that need
-- them.
--
-- KEYS of every script, all in one app's hash slot:
--   1 tenants  HASH  tenant -> "<known>" or "<known>*"; the field's presence is the approval
--   2 waiting  HASH  "<tenant>|<slot>" -> "<seq>;<version>;<attempts>;<superseded>;<first ms>;<change>"
--   3 due      ZSET  tenant -> earliest claim time, ms; has entries, not in flight
--   4 flight   ZSET  tenant -> end of its claim's lease, ms
--   5 mailbox  HASH  the mailbox's own state, format 1
-- ARGV[1] of every script: the birth of the life that the caller means, '' where it only reads. If the
-- mailbox belongs to another life, nothing is written: error GONE when it is a later one, UNBORN when it
-- is an earlier one, which life.lua ends. Each script calls guard before anything else.
-- Time is Redis's own, in milliseconds.
local TENANTS, WAITING, DUE, FLIGHT, BOX = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- int formats a number as Redis and Go read it: Lua's own tostring loses digits above 1e14.
local function int(n) return string.format('%.0f', n) end

local function num(v) return tonumber(v or '') or 0 end

-- guard returns the error of a mailbox that a newer version wrote, that has an unreadable birth, or that
-- belongs to another life. A script reads format and birth together with the fields that it needs itself.
local function guard(format, birth)
  if (not format or format == '1') and (birth or '0') == ARGV[1] and birth ~= '' and #ARGV[1] < 16 then return end -- nearly always
  if format and format ~= '1' then
    return redis.error_reply('FORMAT mailbox has format ' .. format .. ', this version knows 1')
  end
  if birth and not (#birth < 16 and string.find(birth, '^%d+$')) then
    return redis.error_reply('FORMAT mailbox has an unreadable birth')
  end
  if ARGV[1] == '' then return end
  local caller, own = tonumber(ARGV[1]), num(birth)
  if caller < own then
    return redis.error_reply('GONE mailbox belongs to a later life of the app, of ' .. birth)
  elseif caller > own then
    return redis.error_reply('UNBORN mailbox belongs to an earlier life of the app')
  end
end

-- settle lets the rest of the script write although Redis is at maxmemory: after a first write that needs no
-- memory, a script runs to its end. What empties a mailbox must not wait for memory.
local function settle() redis.call('HDEL', BOX, '') end

-- more returns a count plus one; a value that is no number counts as 0.
local function more(n)
  n = tonumber(n or '')
  return int(n and n >= 0 and n < 1e15 and n % 1 == 0 and n + 1 or 1)
end
