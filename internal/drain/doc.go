// Package drain empties mailboxes: it takes one app's mailbox at a time, posts what is due, at
// most one notification of a tenant at once and the oldest first, hands the results in and gives
// the mailbox back when nothing is due, its budget is spent, or the endpoint fails.
//
// A run owns the mailbox under a lease. Losing it is survivable: claims carry stamps of their
// own, and no post starts that could outlast its stamp. Faults of the endpoint close its gate,
// shared through the mailbox; faults of one notification climb the retry schedule; faults of the
// service itself count against nobody.
package drain
