// Package push makes one attempt to tell one app of one change: it builds the notification, signs
// it, posts it to the app's endpoint and reads the answer. It never retries: an attempt is an
// attempt, and what follows from it is decided by its caller.
package push
