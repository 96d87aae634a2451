// Package loop runs work that goes round all apps, or all of something, for ever: one process at a time, in steps that are
// bounded, from where the last one stopped.
//
// A loop has a name, and under it a lease and the place that its round reached, both in Redis and written by one script
// (registry.Store.KeepLoop). A holder renews the lease and writes the place after each step; another process takes over
// when the lease was given back or ran out, and goes on at that place. A process that slept meanwhile learns with its next call that
// it holds nothing any more, and what it did was done twice: so steps MUST be repeatable, and nothing that must never run twice may rest on the lease.
//
// What a step could not do it passes over until the next round, so that no thing that fails holds up the others. Where that is
// the thing's own fault, such as data that cannot be read, the round is complete all the same; where it is the
// store's, it is not, and the time of the last complete round stands still: that is what alerts watch.
package loop
