-- Writes a common cause, if the stored one is still the one from which the new one was decided.
--
-- KEYS[1] STR  the newest common cause
-- ARGV[1] as it was read, '' for none
-- ARGV[2] the new one
-- ARGV[3] ms for which it is kept
--
-- Returns 1 when it was written, 0 when another process was faster.
--
-- Atomic: processes that decide at the same time write one beginning and one end.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[3]) -- so that the script runs to its end although Redis is at maxmemory
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
