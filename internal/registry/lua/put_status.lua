-- Sets a tenant's status without telling anybody.
--
-- KEYS[1] HASH record of the tenant
-- ARGV[1] state
-- ARGV[2] public endpoint, preceded by "="; empty to keep the one that is there
-- ARGV[3] version name, likewise
-- ARGV[4] file version, likewise
--
-- Returns the values of v, state, endpoint, version, file, updated after the write. Error FORMAT:
-- the stored record is of another version and stays untouched.
--
-- Atomic: the status changes as a whole. Sequence, newest changes and mark stay as they are.
local r = redis.pcall('HMGET', KEYS[1], 'v', 'top', 'state')
if r.err then
  return redis.error_reply('FORMAT the stored record is of another type')
end
if r[1] ~= '1' and (r[1] or r[2] or r[3]) then
  return redis.error_reply('FORMAT the stored record is not of format 1')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], 'v', '1', 'state', ARGV[1], 'updated', string.format('%.0f', now))
for i, field in ipairs({'endpoint', 'version', 'file'}) do
  if ARGV[i + 1] ~= '' then
    redis.call('HSET', KEYS[1], field, string.sub(ARGV[i + 1], 2))
  end
end
return redis.call('HMGET', KEYS[1], 'v', 'state', 'endpoint', 'version', 'file', 'updated')
