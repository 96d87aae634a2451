// Package ratelimit limits how often something happens per key, in bounded memory: Limiter counts events, Set remembers
// names for a time, Map drops the keys that were not used for longest. Time is an argument.
package ratelimit
