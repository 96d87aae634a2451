-- Writes the result of a probe and when the endpoint is due again, and releases the claim.
--
-- KEYS[1] HASH  probes, see probe_claim.lua
-- ARGV[1] endpoint
-- ARGV[2] the claim's stamp
-- ARGV[3] when it is due again, ms
-- ARGV[4] the new state
--
-- Returns 1 when written, also by an earlier run of the same settlement; 0 when another claimed the
-- endpoint meanwhile, or the app was removed.
--
-- Atomic: only the result of the newest claim is kept.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local stamp = stored and string.match(stored, '^1;%d+;%d+;([^;]*);')
if stamp ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('1;%s;0;%s;%s', ARGV[3], ARGV[2], ARGV[4]))
return 1
