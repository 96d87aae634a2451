-- inspect: the states of tenants in the mailbox. Reads only; atomic, so that its values are consistent.
--
-- ARGV  1 '', then tenants
-- Returns per tenant six values: mark ('' when not approved), the entries of status, move and restore
--         ('' for none), due ms ('' when not due), flight ms ('' when not in flight).
local b = redis.call('HMGET', BOX, 'format', 'birth')
local refused = guard(b[1], b[2])
if refused then return refused end
local ts = {unpack(ARGV, 2)}
if #ts == 0 then return {} end
local marks, have = redis.call('HMGET', TENANTS, unpack(ts)), entriesOf(ts)
local due, flight = redis.call('ZMSCORE', DUE, unpack(ts)), redis.call('ZMSCORE', FLIGHT, unpack(ts))
local out = {}
for i = 1, #ts do
  local e, o = have[i], 6 * i - 5
  out[o], out[o + 1], out[o + 2], out[o + 3] = marks[i] or '', e[1] or '', e[2] or '', e[3] or ''
  out[o + 4], out[o + 5] = due[i] or '', flight[i] or ''
end
return out
