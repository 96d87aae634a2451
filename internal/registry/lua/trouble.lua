-- Reads the incidents of one app, and whether mails or reports wait. It writes nothing.
--
-- KEYS[1] HASH  incidents: endpoint -> state
-- KEYS[2] HASH  outbox: mail id -> entry
-- KEYS[3] HASH  reports: endpoint -> what engines reported
--
-- Returns '1' when the outbox holds something, else '0'; the same of the reports; then endpoint and
-- state of each incident.
--
-- Atomic: one view of all three.
local out = redis.call('HGETALL', KEYS[1])
table.insert(out, 1, tostring(redis.call('EXISTS', KEYS[3])))
table.insert(out, 1, tostring(redis.call('EXISTS', KEYS[2])))
return out
