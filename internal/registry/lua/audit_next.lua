-- Reads the audit's next entries, oldest first, for the process that writes them out.
--
-- KEYS[1] STREAM audit
-- KEYS[2] STREAM audit_partners
-- ARGV[1..2] the entry of each behind which to read
-- ARGV[3] how many entries of each at most
--
-- Returns {id of the oldest entry of KEYS[1] or '', entries of KEYS[1], entries of KEYS[2]}, as XRANGE has them. Error FORMAT: a
-- stream is of another type.
--
-- Atomic: an entry that is written later is later than all of these, by Redis's clock.
local oldest = redis.pcall('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
local first = redis.pcall('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[3])
local second = redis.pcall('XRANGE', KEYS[2], '(' .. ARGV[2], '+', 'COUNT', ARGV[3])
for _, list in ipairs({oldest, first, second}) do
  if list.err then return redis.error_reply('FORMAT the audit is not a stream') end
end
return {oldest[1] and oldest[1][1] or '', first, second}
