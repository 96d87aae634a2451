// Package auditlog writes the audit log out of Redis as lines of JSON, and checks written lines. Each line contains
// the SHA-256 of the line before, so a line that was altered, removed or inserted breaks the chain. Redis keeps the
// digest of the newest line, so a chain that was made anew is found as well.
//
// One process at a time writes, under the lease of a loop, into the file or the syslog of its own machine. When the
// lease moves to another machine, the chain continues there, and all files together are the whole. After a crash
// between writing a line and recording that in Redis, the same line is written twice.
package auditlog
