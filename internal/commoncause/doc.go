// Package commoncause decides whether so many hosts fail on the connection at once, while none answers, that the cause is not
// theirs: the way out of here, a resolver, a clock. It is pure: a Record keeps what one process saw, Reports tell others
// of it, Merge joins them, and Rules turn that into an Episode, which lasts until any host answers.
//
// A host fails on the connection where no HTTP answer came: its name was not resolved, it refused, it did not answer in time,
// TLS or the connection broke. Any HTTP answer whatever its status is an answer, by whoever asked. What counts:
//
//   - a host that failed since the last answer of any host, and lately (Rules.Within);
//   - that had not been failing for ownAfter when that answer came: what failed while others answered is its own fault, and a quiet
//     night in which nobody but the dead is called is no common cause. What failed in an episode began anew at its end.
//
// Five such hosts in three networks for 30 s are a common cause. The network of a host is that of the address it was last
// dialled at (NetworkOf); where none is known, the end of its name stands for it.
//
// All times are of one clock, which the caller chooses: that of the store through which processes share reports.
package commoncause
