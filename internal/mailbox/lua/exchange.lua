-- exchange: settles results, then claims more.
--
-- ARGV  1 birth, 2 token, 3 want, 4 owner lease ms, 5 entry lease ms, then per result eight values:
--       tenant, slot, version, stamp it was claimed with, kind ('o' ok, 'f' failed, 'w' failed although the
--       endpoint works, 'r' release), delay ms, step (1 climbs the retry schedule), reason number
-- Returns {'lost'}: not the owner; the results were applied as far as a caller without ownership may
--       | {'mine', stamp, left, tenant, slot, entry, tenant, slot, entry ...}: left is how many tenants wait beside
--         those claimed, due now or later; '0' if none is due
--       | {'off', '0', '0'}: the endpoint is off
--       | {'outdated', '0', '0'}: the endpoint was changed, switched on, resumed or tested since the owner began
-- Atomic: all results and all claims. What many results need is read, and written, by one call: the
-- number of calls does not grow with the batch.
--
-- Results come first: they free memory, and must work when Redis has none left. A delivery counts
-- whichever caller reports it. Everything else needs the claim's own stamp, and ownership to make anything due.
-- An owner's 'o' or 'w' proves that the endpoint works: the circuit closes, whatever becomes of the entry. Until
-- then one exchange claims as many tenants as there are probes, whatever is wanted. Half of them come from the end
-- of what is due and were not tried before, because failing entries often stand together. A result of an outdated
-- owner says nothing about the present endpoint: the circuit stays as it is, and failures are due at once and climb
-- no step.
local instant = int(now)
local token, want = ARGV[2], tonumber(ARGV[3])
local b = redis.call('HMGET', BOX, 'owner', 'off', 'stamp', 'gate', 'gopen', 'superseded', 'epoch', 'oepoch', 'format', 'birth', 'probes', 'refusing')
local refused = guard(b[9], b[10])
if refused then return refused end
settle()
local mine, well = b[1] == token, false
local outdated = mine and (b[7] or '0') ~= (b[8] or '0')

-- oldest returns the slot of a tenant's lowest sequence, or nil. Nearly always only one slot is filled.
local function oldest(e)
  if not e[2] and not e[3] then return e[1] and 1 end
  local best, lowest = nil, nil
  for s = 1, 3 do
    if e[s] then
      local seq = num(string.match(e[s], '^([^;]*);'))
      if not best or seq < lowest then best, lowest = s, seq end
    end
  end
  return best
end

-- untriedAtTheEnd returns up to n of the tenants that are due last and were not tried before. A failed probe is
-- due behind entries that were not tried, so it stands among them. It examines 200 tenants.
local function untriedAtTheEnd(n)
  local last, out = redis.call('ZREVRANGEBYSCORE', DUE, instant, '-inf', 'LIMIT', 0, 200), {}
  for i, e in ipairs(entriesOf(last)) do
    local tried = false
    for s = 1, 3 do
      if e[s] and string.find(e[s], '^[^;]*;%d+;%d+/') then tried = true end
    end
    if not tried then out[#out + 1] = last[i] end
    if #out == n then return out end
  end
  return out
end

local tenants, at = {}, {}
for i = 6, #ARGV, 8 do
  local t = ARGV[i]
  if not at[t] then
    tenants[#tenants + 1] = t
    at[t] = #tenants
  end
end
local have, stamps = entriesOf(tenants), {}
if #tenants > 0 then stamps = redis.call('ZMSCORE', FLIGHT, unpack(tenants)) end

local told, emptied, landed, due, failed = {}, {}, {}, {}, {}
for i = 6, #ARGV, 8 do
  local t, slot, ver, stamp, kind = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
  local n = at[t]
  local s = slot == 'status' and 1 or slot == 'move' and 2 or 3
  local e = have[n][s]
  local same = e and string.match(e, '^[^;]*;(%d+);') == ver
  if (kind == 'o' or kind == 'w') and not outdated then well = true end
  if kind == 'o' and same then
    told[#told + 1] = t .. '|' .. slot
    have[n][s] = false
    if vacant(have[n]) then emptied[#emptied + 1] = t end
  end
  if num(stamps[n]) == stamp and (mine or vacant(have[n])) then
    landed[#landed + 1] = t
    stamps[n] = false
    if not vacant(have[n]) then
      local when = instant
      if kind == 'r' and same then -- not tried: due again at its former time
        when = string.match(e, '^[^;]*;%d+;0;%d+;(%d+);') or instant
      end
      if (kind == 'f' or kind == 'w') and same then
        local seq, meta, rest = string.match(e, '^([^;]*);%d+;([^;]*);(.*)$')
        local attempts, steps = string.match(meta, '^(%d+)/(%d+)')
        attempts = num(attempts or meta) + 1
        steps = num(steps)
        if not outdated then
          steps = steps + tonumber(ARGV[i + 6])
          when = int(now + tonumber(ARGV[i + 5]))
        end
        have[n][s] = seq .. ';' .. ver .. ';' .. int(attempts) .. '/' .. int(steps) .. '/' .. ARGV[i + 7] .. '/' .. instant .. ';' .. rest
        failed[#failed + 1], failed[#failed + 2] = t .. '|' .. slot, have[n][s]
      end
      due[#due + 1], due[#due + 2] = when, t
    end
  end
end
-- in this order, so that of two results for one tenant the acknowledgement wins
if #failed > 0 then redis.call('HSET', WAITING, unpack(failed)) end
if #told > 0 then redis.call('HDEL', WAITING, unpack(told)) end
if #landed > 0 then redis.call('ZREM', FLIGHT, unpack(landed)) end
if #due > 0 then redis.call('ZADD', DUE, unpack(due)) end
if #emptied > 0 then redis.call('ZREM', DUE, unpack(emptied)) end

if not mine then return {'lost'} end
if well then
  if b[4] or b[5] then redis.call('HDEL', BOX, 'gate', 'gopen', 'probes', 'refusing') end
  if b[12] then redis.call('HSET', BOX, 'recall', b[12] .. ':' .. instant .. ':0') end
  if b[6] and redis.call('EXISTS', WAITING) == 0 then redis.call('HDEL', BOX, 'superseded') end
end
local lease = int(now + tonumber(ARGV[4]))
if outdated or b[2] then
  redis.call('HSET', BOX, 'oexp', lease)
  return {outdated and 'outdated' or 'off', '0', '0'}
end

local expired = redis.call('ZRANGEBYSCORE', FLIGHT, '-inf', instant, 'LIMIT', 0, 200)
if #expired > 0 then
  local left, again = entriesOf(expired), {}
  for i, t in ipairs(expired) do
    if not vacant(left[i]) then again[#again + 1], again[#again + 2] = instant, t end
  end
  redis.call('ZREM', FLIGHT, unpack(expired))
  if #again > 0 then redis.call('ZADD', DUE, unpack(again)) end
end

local stamp = math.max(now + tonumber(ARGV[5]), num(b[3]) + 1)
local till = int(stamp) -- once: formatting a number costs more than anything else here
local out, claimed = {'mine', till, '0'}, {}
local proving = b[4] and not well
if proving and want > 0 then want = math.max(1, num(b[11])) end
local back = {}
if proving and want > 1 then back = untriedAtTheEnd(math.floor(want / 2)) end
if want > 0 then claimed = redis.call('ZRANGEBYSCORE', DUE, '-inf', instant, 'LIMIT', 0, want) end
if #back > 0 then
  local taken = {}
  for i = #claimed, math.max(1, want - #back + 1), -1 do claimed[i] = nil end
  for _, t in ipairs(claimed) do taken[t] = true end
  for _, t in ipairs(back) do
    if not taken[t] then claimed[#claimed + 1] = t end
  end
end
if #claimed == 0 then
  redis.call('HSET', BOX, 'oexp', lease)
  return out
end
redis.call('HSET', BOX, 'oexp', lease, 'stamp', till)
redis.call('ZREM', DUE, unpack(claimed))
out[3] = redis.call('ZCARD', DUE)
local waiting, flight, f, o = entriesOf(claimed), {}, 0, 3
for i, t in ipairs(claimed) do
  local best = oldest(waiting[i])
  if best then
    f, o = f + 2, o + 3
    flight[f - 1], flight[f] = till, t
    out[o - 2], out[o - 1], out[o] = t, SLOTS[best], waiting[i][best]
  end
end
if #flight > 0 then redis.call('ZADD', FLIGHT, unpack(flight)) end
return out
