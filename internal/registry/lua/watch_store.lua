-- Checks whether the store is still the one with which a process began, and assigns an identity to a process
-- that begins.
--
-- KEYS[1] STR "<identity> <identity that it replaced>…"
-- KEYS[2] STR how often the caller checked; each process has its own, so that no other process makes up for a
-- lost count
-- KEYS[3] STR revision of the settings
-- KEYS[4] SET identities whose processes refuse the store in its present state
-- KEYS[5] STR when a fast round of the comparison was last requested, in microseconds
-- ARGV[1] the identity that the caller remembers; '' when it begins
-- ARGV[2] the identity for a store without one when the caller begins
-- ARGV[3] the count that it remembers
-- ARGV[4] the revision that it remembers
-- ARGV[5] ms for which the count is kept
-- ARGV[6] ms for which a refusal is kept
-- ARGV[7] how many refusals are kept
--
-- Returns {code, identity, count, revision, 1 when count or revision were lower than remembered, else 0}. The
-- code is 1 when the store is the caller's. It is 2 when the store was accepted in place of the one that the
-- caller remembers, or the caller begins. It is 3 when the store has no identity, 4 when it has another: then
-- count and revision are 0, and only the refusal is written. Count and revision are what the caller remembers
-- next.
--
-- Atomic: comparison and count are of one moment. A lower count is not incremented, so that a repeat whose
-- first answer was lost gets the same answer. The first command changes nothing, needs no memory and is a
-- write. So a replica refuses it, and one that lags or is still empty is never believed; and the rest runs
-- although Redis is at maxmemory.
redis.call('PERSIST', KEYS[1])

local function number(key)
  local value = redis.pcall('GET', key)
  local n = type(value) == 'string' and tonumber(value) or 0
  if not (n >= 0 and n < 9007199254740992) then return 0 end
  return n
end

local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then stored = '?' end
if not stored and ARGV[1] == '' then
  stored = ARGV[2]
  redis.call('SET', KEYS[1], stored)
end
local identity = stored and (string.match(stored, '^[A-Z2-7]+') or '?')

local code = 4
if not stored then
  code = 3
elseif identity == ARGV[1] then
  code = 1
elseif ARGV[1] == '' then
  code = 2
else
  for from in string.gmatch(string.sub(stored, 1, 1000), '%S+') do
    if from == ARGV[1] then code = 2 end
  end
end

if code > 2 then
  if redis.pcall('SCARD', KEYS[4]) ~= tonumber(ARGV[7]) then redis.pcall('SADD', KEYS[4], ARGV[1]) end
  redis.call('PEXPIRE', KEYS[4], ARGV[6])
  return {code, identity or '', 0, 0, 0}
end

local count, revision, lower = number(KEYS[2]), number(KEYS[3]), 0
if code == 1 and (count < tonumber(ARGV[3]) or revision < tonumber(ARGV[4])) then
  lower = 1
  local time = redis.call('TIME')
  redis.call('SET', KEYS[5], string.format('%.0f', time[1] * 1000000 + time[2]))
else
  count = count + 1
end
redis.call('SET', KEYS[2], string.format('%.0f', count), 'PX', ARGV[5])
return {code, identity, count, revision, lower}
