// Package auditlog writes the audit out of Redis as lines of JSON, and checks what was written. Each line names
// the SHA-256 of the line before, so that a line which is altered, left out or put in breaks the chain, and Redis
// keeps the digest of the newest, so that a chain which was made anew is found as well.
//
// One process at a time writes, under the lease of a loop, into the file or the syslog of its own machine: where the lease
// moves between machines, the chain goes on in another place, and all of them together are the whole. A line may be
// written twice, after a crash between writing and noting that in Redis; it is the same line then.
package auditlog
