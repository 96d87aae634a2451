// Package health holds what is known about integration endpoints: what a probe can find, in words
// for people; what is remembered of an endpoint between probes; when it is looked at next; and how
// all of that reads as one word. It is pure: time and randomness come in as arguments.
package health
