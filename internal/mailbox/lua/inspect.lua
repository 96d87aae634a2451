-- inspect: how tenants stand in the mailbox. Reads only; atomic, so that its numbers fit together.
--
-- ARGV  1 '', then tenants
-- Returns per tenant six values: mark ('' when not approved), the entries of status, move and restore
--         ('' for none), due ms ('' when not due), flight ms ('' when not in flight).
local out = {}
for i = 2, #ARGV do
  local t = ARGV[i]
  local have = entries(t)
  out[#out + 1] = redis.call('HGET', TENANTS, t) or ''
  for s = 1, 3 do out[#out + 1] = have[s] or '' end
  out[#out + 1] = redis.call('ZSCORE', DUE, t) or ''
  out[#out + 1] = redis.call('ZSCORE', FLIGHT, t) or ''
end
return out
