// Package intake accepts state changes from the platform and answers which apps have received a change. Accepting is
// one durable step of the registry. The same step marks the fan-out that follows as pending, so no later step here
// has to succeed.
package intake
