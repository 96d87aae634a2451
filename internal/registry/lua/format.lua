-- Raises the format of the data to that of a version that starts, unless it is newer already.
--
-- KEYS[1] STR the highest format that any version which ran here writes; absent: before 2
-- ARGV[1] the highest format that the caller reads and writes
--
-- Returns the format that the data has now: above ARGV[1] the caller MUST NOT go on. What is there but
-- no number is answered as it is, and left alone.
--
-- Atomic: of two versions that start at once the newer decides.
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
