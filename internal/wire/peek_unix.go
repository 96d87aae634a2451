//go:build unix

package wire

import (
	"errors"
	"net"
	"syscall"
)

// peekConn checks a connection without waiting and without consuming anything. waits says that there is something to
// read, ended that the other side has closed it.
func peekConn(c net.Conn) (waits, ended bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, true
	}
	var b [1]byte
	var n int
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, _, failed = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	switch {
	case err != nil:
		return false, true
	case errors.Is(failed, syscall.EAGAIN), errors.Is(failed, syscall.EINTR):
		return false, false
	case failed != nil:
		return false, true
	default:
		return n > 0, n == 0
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
