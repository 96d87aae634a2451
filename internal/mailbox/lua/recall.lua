-- recall: the owner makes a page due of what failed while the endpoint was not well.
--
-- ARGV  1 birth, 2 token
-- Returns '1' where there is more, '0' where there is none, or the caller is not the owner.
-- Atomic: the page and how far it came. A repeat makes another page.
local b = redis.call('HMGET', BOX, 'owner', 'format', 'birth')
local refused = guard(b[2], b[3])
if refused then return refused end
settle()
if b[1] ~= ARGV[2] then return '0' end
return recall()
