-- Accepts the present store: assigns an identity that replaces the former ones.
--
-- KEYS[1] STR "<identity> <identity that it replaced>…"
-- KEYS[2] SET identities whose processes refuse the store in its present state
-- KEYS[3] STR when a fast round of the comparison was last requested, in microseconds
-- KEYS[4] STREAM audit
-- ARGV[1] the new identity
-- ARGV[2] the identity that the caller remembers
-- ARGV[3] how many identities the store replaces at most
-- ARGV[4] about how many audit entries to keep
-- ARGV[5..7] actor, role, request id
--
-- Returns the identity that the store had, '' for none.
--
-- Atomic: identity, fast round and audit are one step. A repeat under the same identity changes nothing. Each
-- process that remembers one of the replaced identities accepts the store at its next check.
local stored = redis.pcall('GET', KEYS[1])
if type(stored) ~= 'string' then stored = '' end
local words, seen = {ARGV[1]}, {[ARGV[1]] = true}
local function add(word)
  if #words <= tonumber(ARGV[3]) and string.match(word, '^[A-Z2-7?]+$') and #word <= 64 and not seen[word] then
    seen[word] = true
    words[#words + 1] = word
  end
end
local was = string.match(stored, '^[A-Z2-7]+') or ''
if was == ARGV[1] then
  return string.match(stored, '^%S+ (%S+)') or ''
end
add(ARGV[2])
add(was)
local refused = redis.pcall('SMEMBERS', KEYS[2])
for _, word in ipairs(refused.err and {} or refused) do add(word) end
for word in string.gmatch(string.sub(stored, 1, 1000), '%S+') do add(word) end

redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[1], table.concat(words, ' '))
local time = redis.call('TIME')
redis.call('SET', KEYS[3], string.format('%.0f', time[1] * 1000000 + time[2]))
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[4], '*', 'v', '1', 'actor', ARGV[5], 'role', ARGV[6],
  'request', ARGV[7], 'action', 'store.accept', 'subject', 'store', 'before', was, 'after', ARGV[1])
return was
