package redistest

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// Delay stands before a server and passes all on, each way so much later, as a network between zones does: a round trip takes
// twice as long and a pipeline no longer than a command. It returns the address to connect to.
func Delay(t testing.TB, upstream string, oneWay time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it ends with the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", upstream) //nolint:noctx // it ends with the test
			if err != nil {
				_ = client.Close()
				continue
			}
			go pass(client, server, oneWay)
			go pass(server, client, oneWay)
		}
	}()
	return l.Addr().String()
}

// pass carries what comes from one connection to the other until one ends, and then ends both.
func pass(from, to net.Conn, late time.Duration) {
	type piece struct {
		b   []byte
		due time.Time
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer func() {
			_ = from.Close()
			_ = to.Close()
		}()
		for p := range pieces {
			pause(time.Until(p.due))
			if _, err := to.Write(p.b); err != nil {
				break
			}
		}
		for range pieces { // the reader must not wait for a writer that is gone
		}
	}()
	defer close(pieces)
	for {
		b := make([]byte, 16<<10)
		n, err := from.Read(b)
		if err != nil {
			return
		}
		pieces <- piece{b[:n], time.Now().Add(late)}
	}
}

// pause waits without the runtime's timers, which come a millisecond late.
func pause(d time.Duration) {
	if d > 0 {
		t := syscall.NsecToTimespec(d.Nanoseconds())
		_ = syscall.Nanosleep(&t, nil) // cut short by a signal, it is only early
	}
}
