-- Binds the lines of an idempotent call to their bodies.
--
-- KEYS[1] HASH line -> hash of its body, of one idempotency key
-- ARGV[1] ms to keep the binding
-- ARGV[2..] line, hash of its body; repeated
--
-- Returns the lines that are bound to another body, as a list.
--
-- Atomic: of two callers with different bodies for one line, exactly one binds it. Lines without
-- conflict are bound even when others conflict. Each call keeps the whole binding anew, so that
-- it outlives every answer given under it.
local conflicts = {}
for i = 2, #ARGV, 2 do
  if redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) == 0
    and redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then
    conflicts[#conflicts + 1] = ARGV[i]
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return conflicts
