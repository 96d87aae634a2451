// Package feed answers the platform's engines which integration endpoints are on, and their URLs. It answers with a
// snapshot, with the changes since a revision, and as soon as something changes.
//
// The registry issues a revision whenever the part of an app that engines see has changed. Any replica can answer
// from any revision: the registry stores which app changed at which revision, and the directory has the app's present
// settings. The directory is read after the revision. So an answer is at least as new as its revision, and an app may
// appear again in the next answer.
//
// One goroutine of the process reads the revision from the registry, once per interval and only while a reader waits.
// All readers that know the same revision share one answer.
package feed
