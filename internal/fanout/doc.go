// Package fanout carries a tenant's record into the mailboxes of the apps that approved it, and
// keeps the approvals themselves.
//
// A fan-out deposits a snapshot of the record, never a single change: late, repeated, overtaken or
// half-done, it can only repeat newer truth. The mark that a fan-out is owed is cleared when every
// mailbox has the snapshot and the record is still the one that was read; until then the sweep
// comes back.
package fanout
