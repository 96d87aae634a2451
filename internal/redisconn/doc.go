// Package redisconn makes the one Redis client that the whole process shares, and looks at
// whether the server behind it is fit to keep the only copy of the service's state.
//
// New reads the five forms of redis.url (one server, Sentinel, Cluster, each with TLS).
// Inspect and Report.Problems are the safety checks; PoolCollector exports the connection pool.
// No error of this package holds a password.
package redisconn
