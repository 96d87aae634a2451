// Package delivery defines a notification, the results that an attempt can have, and when it is made
// again. It is pure. It holds the closed sets of outcomes and reasons, the reading of an answer's status,
// and the retry schedule.
package delivery
