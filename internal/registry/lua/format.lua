-- Raises the stored format of the data to that of a starting version, unless it is newer already.
--
-- KEYS[1] STR the highest format that any version writes that has run here; absent: below 2
-- ARGV[1] the highest format that the caller reads and writes
--
-- Returns the format of the data: above ARGV[1] the caller MUST NOT continue. A stored value that is no number
-- is returned unchanged and stays.
--
-- Atomic: of two versions that start at the same time the newer one decides.
local has = redis.call('GET', KEYS[1])
if not has then
  redis.call('SET', KEYS[1], ARGV[1])
  return ARGV[1]
end
local format = tonumber(has)
if format and format < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
  return ARGV[1]
end
return has
