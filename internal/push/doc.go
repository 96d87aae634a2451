// Package push makes one attempt to notify one app of one change. It builds the notification, signs it, posts it to
// the app's endpoint and reads the answer. It never retries; its caller decides what follows from an attempt.
package push
