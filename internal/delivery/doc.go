// Package delivery says what one push is, what can come of it and when it is tried again. It is
// pure: the closed sets of outcomes and reasons, how an answer is read, and the retry schedule.
package delivery
