-- Appends an entry of a partner to the audit.
--
-- KEYS[1] STREAM audit_partners
-- KEYS[2] LIST   ids of the partner's entries, the oldest first
-- KEYS[3] STR    how many entries partners have made
-- ARGV[1] about how many entries to keep in all
-- ARGV[2..8] actor, role, request id, action, subject, before, after
--
-- Returns 1.
--
-- Atomic: adding the entry and removing the partner's oldest one are one step.
note(KEYS[1], KEYS[2], KEYS[3], unpack(ARGV))
return 1
