// Package jobs carries out work for whole apps, page by page: clearing away after a deletion, telling an app of all its tenants again.
//
// A job is state in Redis beside its app (mailbox.Job): where it is, how far, whose claim. It survives any deadline, restart and
// release, since a page and the job's new place are one step, and a worker that dies loses its claim after mailbox.JobLease.
//
// Which jobs run is listed apart (registry.ListJobs): first listed, then made, so that a crash between the two leaves a name in the
// list that is struck off in time, and no job that nobody looks after. Each Runner takes from the list what is due and claims it; no
// task of a queue is needed. A Runner makes pages of few jobs at once, each for a slice of time, and then goes on with the one that
// waits longest: so a large job or a failing one keeps no other waiting for longer than a slice.
//
// A Finder looks at all apps in turns for what was never listed: deletions that were cut short, what an older version left, and lists
// that Redis lost.
package jobs
