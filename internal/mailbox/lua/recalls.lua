-- recalls: added behind entries to the scripts that make entries due which failed while the endpoint did not
-- work. It uses their KEYS and ARGV, and is atomic with them; what recall returns is described there.
--
-- The mailbox's field recall is "<from>:<until>:<score>": entries that failed last between <from> and <until>
-- are due at once, and keep their step of the retry schedule. Entries from <score> on were not examined yet.
-- What fails again meanwhile failed after <until>, and is not recalled.

-- begin_recall stores that what failed since from, until now, is to be recalled.
local function begin_recall(from) redis.call('HSET', BOX, 'recall', from .. ':' .. int(now) .. ':0') end

-- recall makes a page of it due: at most 200 tenants are examined. Returns '1' if there is more.
local function recall()
  local from, till, score = string.match(redis.call('HGET', BOX, 'recall') or '', '^(%d+):(%d+):(%d+)$')
  if not from then
    redis.call('HDEL', BOX, 'recall')
    return '0'
  end
  from, till = tonumber(from), tonumber(till)
  local page = redis.call('ZRANGEBYSCORE', DUE, int(math.max(tonumber(score), now + 1)), '+inf', 'WITHSCORES', 'LIMIT', 0, 200)
  local tenants, due = {}, {}
  for i = 1, #page, 2 do tenants[#tenants + 1] = page[i] end
  local have = entriesOf(tenants)
  for n, t in ipairs(tenants) do
    for s = 1, 3 do
      local last = have[n][s] and num(string.match(have[n][s], '^[^;]*;%d+;%d+/%d+/%d+/(%d+);'))
      if last and last > 0 and last >= from and last <= till then
        due[#due + 1], due[#due + 2] = int(now), t
        break
      end
    end
  end
  if #due > 0 then redis.call('ZADD', DUE, unpack(due)) end
  if #tenants < 200 then
    redis.call('HDEL', BOX, 'recall')
    return '0'
  end
  local last = tonumber(page[#page])
  if last <= tonumber(score) then last = last + 1 end -- all of the page have the same due time
  redis.call('HSET', BOX, 'recall', int(from) .. ':' .. int(till) .. ':' .. int(last))
  return '1'
end
