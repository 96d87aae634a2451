//go:build !unix

package wire

import (
	"errors"
	"net"
	"syscall"
)

// peekConn cannot check on this system: a closed connection is noticed when it is used.
func peekConn(net.Conn) (waits, ended bool) { return false, false }

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
