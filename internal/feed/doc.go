// Package feed tells the platform's engines which integration endpoints are on, and their URLs: as
// a snapshot, as what changed since a revision, and as soon as something changes.
//
// The registry gives out a revision whenever what engines see of an app changed. Any replica answers
// from any revision, because who changed when lies in the registry; what an app looks like now comes
// from the directory. The directory is read after the revision, so an answer is at least as new as
// the revision it bears, and what it tells too early comes again.
//
// However many engines wait, one goroutine of the process asks the registry for the revision, once
// in an interval, and only while somebody waits. What they then hear is made once for all who knew
// the same.
package feed
