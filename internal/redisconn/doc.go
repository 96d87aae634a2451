// Package redisconn makes the one Redis client that the whole process shares, and checks whether the server is fit to keep the
// only copy of the service's state.
//
// New accepts the forms of redis.url (one server, Sentinel, Cluster, each with or without TLS). Inspect and Report.Problems are
// the safety checks; NewPoolCollector exports the connection pool. No error of this package holds a password.
package redisconn
