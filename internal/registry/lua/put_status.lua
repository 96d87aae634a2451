-- Sets a tenant's status without notifying any app.
--
-- KEYS[1] HASH record of the tenant
-- ARGV[1] state
-- ARGV[2] public endpoint, preceded by "="; empty to keep the stored one
-- ARGV[3] version name, likewise
-- ARGV[4] file version, likewise
-- ARGV[5..11] the values of v, state, endpoint, version, file, updated, top that the writer read,
--         empty if there was none; absent to replace whatever is stored
--
-- Returns {before, after}: the record's fields and values before and after the write; {} when the record
-- differs from what the writer read. Error FORMAT: the stored record is of another version and stays unchanged.
--
-- Atomic: the status changes as a whole. Sequence, newest changes and mark stay as they are. A repeat by the
-- client library finds the status that it writes, and is no conflict.
local r = redis.pcall('HMGET', KEYS[1], 'v', 'state', 'endpoint', 'version', 'file', 'updated', 'top')
if r.err then
  return redis.error_reply('FORMAT the stored record is of another type')
end
if r[1] ~= '1' and (r[1] or r[2] or r[7]) then
  return redis.error_reply('FORMAT the stored record is not of format 1')
end
local written = r[2] == ARGV[1]
for i = 2, 4 do
  if ARGV[i] ~= '' and (r[i + 1] or '') ~= string.sub(ARGV[i], 2) then written = false end
end
if ARGV[5] and not written then
  for i = 1, 7 do
    if (r[i] or '') ~= ARGV[i + 4] then return {} end
  end
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local before = redis.call('HGETALL', KEYS[1])
redis.call('HSET', KEYS[1], 'v', '1', 'state', ARGV[1], 'updated', string.format('%.0f', now))
for i, field in ipairs({'endpoint', 'version', 'file'}) do
  if ARGV[i + 1] ~= '' then
    redis.call('HSET', KEYS[1], field, string.sub(ARGV[i + 1], 2))
  end
end
return {before, redis.call('HGETALL', KEYS[1])}
