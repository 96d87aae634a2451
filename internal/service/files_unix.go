//go:build linux || darwin

package service

import "syscall"

// limitConnections returns the connections per listener, so that half of the files that this process may open are
// left to Redis, partners and the mail server.
func limitConnections(wanted, listeners int) int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return wanted
	}
	most := files.Cur / 2 / uint64(listeners)
	return int(min(most, uint64(wanted)))
}
