// Package compare holds what mailboxes, index, records and lists say of every pair of app and tenant
// against each other, all the time, and repairs what differs: writes that Redis lost, and what no other
// repair knows of.
//
// One worker at a time holds the lease and walks in small steps: first each app's mailbox with its tenants'
// records and index entries, then the whole index. A pair that looks wrong is looked at again ten seconds later,
// in an order of reads in which no change, fan-out or approval that is under way can look like a gap; what is
// still wrong then is repaired by the ordinary, idempotent operations, and counted. The place that the walk
// reached lies in Redis beside the lease, so that another process goes on there.
//
// The walk is slow, unless a fast round was asked for: by a gap that was found, by another primary, by settings
// whose revision went back, or by any process through registry.Store.AskComparison.
package compare
