-- recall: the owner makes a page of entries due that failed while the endpoint did not work.
--
-- ARGV  1 birth, 2 token
-- Returns '1' if there is more, '0' if there is none, or the caller is not the owner.
-- Atomic: the page and its place. A repeat makes another page.
local b = redis.call('HMGET', BOX, 'owner', 'format', 'birth')
local refused = guard(b[2], b[3])
if refused then return refused end
settle()
if b[1] ~= ARGV[2] then return '0' end
return recall()
