// Package jobs does work for whole apps, page by page: it clears away what a deleted app left, and deposits the status of all of
// an app's tenants again.
//
// A job is state in Redis beside its app (mailbox.Job): its place, its progress and its claim. It survives deadlines, restarts
// and releases, since a page and the job's new place are written in one step. A worker that dies loses its claim after
// mailbox.JobLease.
//
// The names of running jobs are kept in a separate list (registry.Store.RegisterJobs). A job is listed before it is made. A crash
// between the two leaves a name without a job, which is removed from the list later, and never a job that no runner finds. Each
// Runner takes the jobs that are due from the list and claims them; it needs no queue task. A Runner makes pages of few jobs at
// once, each for a slice of time, and then continues with the job that has waited longest. So a large or failing job delays the
// others by a slice at most.
//
// A Resyncer starts the deposit jobs: on request, at most one a minute for an app, and for gaps that the comparison finds.
//
// A Finder checks all apps in turns for jobs that were never listed: deletions that were interrupted, what an older version left,
// and lists that Redis lost.
package jobs
