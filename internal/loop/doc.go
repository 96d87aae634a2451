// Package loop runs work that repeats over all apps, or all of something: in one process at a time, in bounded steps, each from
// the place where the last one stopped.
//
// A loop has a name, a lease and the place that its round reached. Lease and place are stored in Redis and written by one script
// (registry.Store.TakeLoopLease). The holder renews the lease and writes the place after each step. Another process takes over
// when the lease was released or expired, and continues at that place. A process that was suspended meanwhile learns with its
// next call that it no longer holds the lease; what it did was then done twice. So steps MUST be repeatable, and work that must
// never run twice must not rely on the lease.
//
// What a step cannot do is skipped until the next round, so that one failing item does not delay the others. If the cause is the
// item, such as data that cannot be read, the round still counts as complete. If the cause is the store, it does not, and the
// time of the last complete round stays as it is: alerts watch that time.
package loop
