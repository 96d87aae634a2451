-- Binds the lines of an idempotent call to their bodies.
--
-- KEYS[1] HASH line -> hash of its body, for up to 500 lines of one idempotency key
-- KEYS[2] HASH the same for all lines, where an older version bound them; only if it is another key
-- ARGV[1] ms to keep the binding
-- ARGV[2..] line, hash of its body; repeated, 500 lines at most
--
-- Returns the lines that are bound to another body, as a list.
--
-- Atomic: of two callers with different bodies for one line, exactly one binds it. Lines without conflict are
-- bound even if others conflict. Each call extends the life of the whole binding, so that it outlives every
-- answer given under it. A HASH expires as a whole, which takes longer the more it holds.
local lines, fresh, conflicts = {}, {}, {}
for i = 2, #ARGV, 2 do lines[#lines + 1] = ARGV[i] end
local bound = redis.call('HMGET', KEYS[1], unpack(lines))
local before = KEYS[2] and redis.call('HMGET', KEYS[2], unpack(lines)) or {}
for i, line in ipairs(lines) do
  local body, has = ARGV[2 * i + 1], bound[i] or before[i]
  if has and has ~= body then
    conflicts[#conflicts + 1] = line
  elseif not bound[i] then
    fresh[#fresh + 1], fresh[#fresh + 2] = line, body
  end
end
if #fresh > 0 then redis.call('HSET', KEYS[1], unpack(fresh)) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return conflicts
