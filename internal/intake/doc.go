// Package intake accepts state changes from the platform and answers who knows of them. Accepting
// is one durable step of the registry; the fan-out that follows is owed by a mark that the same
// step wrote, so nothing here has to succeed afterwards.
package intake
