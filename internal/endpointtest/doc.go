// Package endpointtest tests an endpoint when a caller of the API asks for it, and before an endpoint is switched on.
// Package probe makes the probes on schedule, and package drain the attempts of notifications.
package endpointtest
