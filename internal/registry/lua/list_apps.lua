-- Reads one page of the apps, ordered by client id.
--
-- KEYS[1] HASH apps: client id -> "<revision>;<document>"
-- KEYS[2] ZSET index of client ids, score 0
-- KEYS[3] HASH lives: client id -> "<birth>;<digest>;<revision of the endpoint>"
-- ARGV[1] start of the range, as ZRANGEBYLEX takes it: "-" or "(<client id>"
-- ARGV[2] how many at most
--
-- Returns a flat list of client id, stored value, life or ''.
--
-- Atomic: index and documents are of one moment. Writes nothing.
local ids = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, ARGV[2])
local page = {}
if #ids == 0 then
  return page
end
local documents = redis.call('HMGET', KEYS[1], unpack(ids))
local lives = redis.call('HMGET', KEYS[3], unpack(ids))
for i, id in ipairs(ids) do
  page[#page + 1] = id
  page[#page + 1] = documents[i] or ''
  page[#page + 1] = lives[i] or ''
end
return page
