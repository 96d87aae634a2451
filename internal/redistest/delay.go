package redistest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// delayEnv has a process be the slow way of Delay: "<upstream> <one way>".
const delayEnv = "REDISTEST_DELAY"

// Delay stands before a server and passes all on, each way so much later, as a network between zones does: a round trip takes
// twice as long and a pipeline no longer than a command. It returns the address to connect to.
//
// It is a process of its own: waits as short as these are made in the kernel, where each keeps a processor of the Go runtime from
// whatever else the process does.
func Delay(t testing.TB, upstream string, oneWay time.Duration) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self) //nolint:gosec,noctx // this program, which ends with its standard input
	cmd.Env = append(os.Environ(), delayEnv+"="+upstream+" "+oneWay.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the slow way to %s did not start: %v", upstream, err)
	}
	return strings.TrimSpace(addr)
}

// ServeDelay is the slow way of Delay, where the process was started to be one, and then does not return. The TestMain of every
// package that calls Delay MUST call it first; Main does.
func ServeDelay() {
	upstream, late, ok := strings.Cut(os.Getenv(delayEnv), " ")
	if !ok {
		return
	}
	oneWay, err := time.ParseDuration(late)
	if err == nil {
		err = serveDelay(upstream, oneWay)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// serveDelay is the slow way; it ends the process when its standard input ends.
func serveDelay(upstream string, oneWay time.Duration) error {
	runtime.GOMAXPROCS(delayProcs)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it ends with the process
	if err != nil {
		return err
	}
	there, back := make(chan piece, pieces), make(chan piece, pieces)
	go deliver(there)
	go deliver(back)
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	fmt.Println(l.Addr()) // for who started it
	for {
		client, err := l.Accept()
		if err != nil {
			return err
		}
		server, err := net.Dial("tcp", upstream) //nolint:noctx,gosec // it ends with the process; the test says where to
		if err != nil {
			_ = client.Close()
			continue
		}
		go pass(client, server, oneWay, there)
		go pass(server, client, oneWay, back)
	}
}

const (
	// delayProcs is enough for those that sleep to find a processor at once.
	delayProcs = 16
	// pieces is how much is on its way at once.
	pieces = 1 << 16
)

// piece is what is on its way; without bytes it is the end.
type piece struct {
	to  net.Conn
	b   []byte
	due time.Time
}

// pass reads what comes from one connection for the other, until one ends.
func pass(from, to net.Conn, late time.Duration, way chan<- piece) {
	for {
		b := make([]byte, 16<<10)
		n, err := from.Read(b)
		way <- piece{to, b[:n], time.Now().Add(late)}
		if err != nil {
			_ = from.Close()
			return
		}
	}
}

// deliver writes all pieces of one way, each when it is due: all are as late, so they are due in their order.
func deliver(way <-chan piece) {
	for p := range way {
		pause(time.Until(p.due))
		if len(p.b) == 0 {
			_ = p.to.Close()
		} else if _, err := p.to.Write(p.b); err != nil {
			_ = p.to.Close()
		}
	}
}

// pause waits without the runtime's timers, which come a millisecond late.
func pause(d time.Duration) {
	if d > 0 {
		t := syscall.NsecToTimespec(d.Nanoseconds())
		_ = syscall.Nanosleep(&t, nil) // cut short by a signal, it is only early
	}
}
