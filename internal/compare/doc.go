// Package compare continuously compares what mailboxes, the index, records and lists hold about every pair of app and tenant. It
// repairs what differs: writes that Redis lost, and gaps that no other repair finds.
//
// One worker at a time holds the lease and walks in small steps: first each app's mailbox with its tenants' records and index
// entries, then the whole index. A pair that looks wrong is checked again after ten seconds. The second check reads in an order
// in which no change, fan-out or approval in progress can look like a gap. What is still wrong then is repaired by the ordinary,
// idempotent operations, and counted. The place that the walk reached is stored in Redis beside the lease, so that another
// process continues from there.
//
// The walk is slow unless a fast round was requested: after a gap was found, after the primary changed, after the revision of the
// settings went back, or by any process through registry.Store.RequestFastRound.
package compare
