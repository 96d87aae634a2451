-- Reads a page of the audit, newest first, out of one stream or two.
--
-- KEYS[1..2] STREAMs; of entries with the same id those of the first come first
-- ARGV[1..2] where each stream is read from, as XREVRANGE takes it
-- ARGV[3] the subject whose entries are selected, empty for all
-- ARGV[4] how many entries are requested
-- ARGV[5] how many entries to examine, and ARGV[6] how many bytes of them, both at most
--
-- Returns {more, stream, id, looked, bytes, entry...}: 1 when there are more, the stream (1 or 2) and the id of
-- the last entry that was examined, how many were examined and their bytes; each entry is {stream, id, {field,
-- value...}}. Error FORMAT: a stream is of another type.
--
-- Atomic: all entries between two entries of an answer were examined. It reads one entry first, and then as
-- many at a time as fit into the remaining bytes if they are of that size.
local sources, left = {}, tonumber(ARGV[6])
for n = 1, #KEYS do
  sources[n] = {key = KEYS[n], from = ARGV[n], list = {}, at = 1, size = left}
end
local function head(s)
  if s.at > #s.list and not s.ended then
    local count = math.max(1, math.min(16, math.floor(left / s.size)))
    local list = redis.pcall('XREVRANGE', s.key, s.from, '-', 'COUNT', count)
    if list.err then return nil, true end
    s.list, s.at, s.ended = list, 1, #list < count
    if #list > 0 then s.from = '(' .. list[#list][1] end
  end
  return s.list[s.at]
end
local function newer(a, b)
  local m, i = string.match(a, '(%d+)-(%d+)')
  local n, j = string.match(b, '(%d+)-(%d+)')
  m, n = tonumber(m), tonumber(n)
  return m > n or m == n and tonumber(i) > tonumber(j)
end

local answer, looked, bytes = {0, 0, '', 0, 0}, 0, 0
while true do
  local best, newest
  for n, s in ipairs(sources) do
    local e, broken = head(s)
    if broken then return redis.error_reply('FORMAT the audit is not a stream') end
    if e and (not newest or newer(e[1], newest[1])) then best, newest = n, e end
  end
  if not newest then break end
  if #answer - 5 >= tonumber(ARGV[4]) or looked >= tonumber(ARGV[5]) or bytes >= tonumber(ARGV[6]) then
    answer[1] = 1
    break
  end
  local s, size, wanted = sources[best], 0, ARGV[3] == ''
  for i = 1, #newest[2], 2 do
    size = size + #newest[2][i + 1]
    wanted = wanted or newest[2][i] == 'subject' and newest[2][i + 1] == ARGV[3]
  end
  s.at, s.size, left = s.at + 1, math.max(size, 256), left - size
  looked, bytes = looked + 1, bytes + size
  answer[2], answer[3] = best, newest[1]
  if wanted then answer[#answer + 1] = {best, newest[1], newest[2]} end
end
answer[4], answer[5] = looked, bytes
return answer
