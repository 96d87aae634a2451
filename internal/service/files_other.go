//go:build !linux && !darwin

package service

// limitConnections bounds the connections of each of some listeners; a process may open what it wants here.
func limitConnections(wanted, _ int) int { return wanted }
