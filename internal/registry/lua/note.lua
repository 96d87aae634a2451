-- note: added before the scripts that audit writes of partners. It uses their KEYS and ARGV, and is atomic with
-- them.
--
-- note appends an entry to the audit. of is a LIST of the ids of one partner's entries, nil for an entry of
-- staff, tokens or the service. The stream as a whole keeps about keep entries. Of one partner's entries the
-- newest 500 are kept: one more removes that partner's oldest. count is the STR by which partners' entries are
-- numbered, so that a reader can detect that some are gone. It returns nothing.
local function note(stream, of, count, keep, actor, role, request, action, subject, before, after)
  local fields = {'v', '1', 'actor', actor, 'role', role, 'request', request, 'action', action, 'subject', subject,
    'before', before, 'after', after}
  if of then
    fields[#fields + 1] = 'n'
    fields[#fields + 1] = string.format('%.0f', redis.call('INCR', count))
  end
  local id = redis.call('XADD', stream, 'MAXLEN', '~', keep, '*', unpack(fields))
  if of then
    local beyond = redis.call('RPUSH', of, id) - 500
    for _ = 1, math.min(beyond, 2) do
      redis.call('XDEL', stream, redis.call('LPOP', of))
    end
  end
end
