-- entries: added behind the prelude to the scripts that read pending entries. It uses their KEYS and ARGV, is
-- atomic with them, and returns nothing itself.
local SLOTS = {'status', 'move', 'restore'}

-- entriesOf reads the pending entries of tenants: at each tenant's index one value or false per slot.
local function entriesOf(ts)
  local fields, out = {}, {}
  for i, t in ipairs(ts) do
    fields[3 * i - 2], fields[3 * i - 1], fields[3 * i] = t .. '|status', t .. '|move', t .. '|restore'
  end
  if #fields == 0 then return out end
  local flat = redis.call('HMGET', WAITING, unpack(fields))
  for i = 1, #ts do out[i] = {flat[3 * i - 2], flat[3 * i - 1], flat[3 * i]} end
  return out
end

local function vacant(e) return not (e[1] or e[2] or e[3]) end
