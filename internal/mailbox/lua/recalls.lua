-- recalls: prepended, behind entries, to the scripts that make due what failed while the endpoint was not well. KEYS and
-- ARGV are theirs, and so it is atomic with them; what recall returns stands with it.
--
-- The mailbox's field recall is "<from>:<until>:<score>": what failed last from <from> until <until> is due at once, and keeps
-- its step; behind <score> nothing was looked at yet. What fails again meanwhile failed after <until>, and is left alone.

-- begin_recall notes that what failed from then on, until now, is to be recalled.
local function begin_recall(from) redis.call('HSET', BOX, 'recall', from .. ':' .. int(now) .. ':0') end

-- recall makes a page of it due: at most 200 tenants are looked at. Returns '1' where there is more.
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
  if last <= tonumber(score) then last = last + 1 end -- all of a page are due in one millisecond
  redis.call('HSET', BOX, 'recall', int(from) .. ':' .. int(till) .. ':' .. int(last))
  return '1'
end
