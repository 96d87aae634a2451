// Package commoncause decides whether so many hosts fail on the connection at once, while none answers, that the
// cause is ours: the internet connection, a resolver, a clock. It is pure. A ReachRecord keeps what one process
// observed, Reports share it with others, MergeReports joins them. Rules turn that into an Episode, which lasts until
// any host answers.
//
// A host fails on the connection when no HTTP answer came: its name was not resolved, it refused, it did not answer
// in time, or TLS or the connection broke. Any HTTP answer counts as an answer, whatever its status and whichever
// process got it. A host counts as failing when both are true:
//
//   - it has failed since the last answer of any host, and recently (Rules.Within);
//   - it had been failing for less than ownAfter when that answer came. A host that fails for longer while others answer has its
//     own fault: a quiet night in which only dead hosts are called is no common cause. A host that failed in an episode counts
//     as failing only since the end of that episode.
//
// Five such hosts in three networks for 30 s are a common cause. A host's network is that of the address it was last
// dialled at (NetworkOf). When no address is known, the end of its name stands for it.
//
// All times are of one clock, which the caller chooses: that of the store through which processes share reports.
package commoncause
