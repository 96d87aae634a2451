package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// receiver is every partner at once: each app has a loopback address of its own, so that a client
// pools connections per app, and one listener takes them all.
type receiver struct {
	port   int
	server *http.Server
	now    atomic.Pointer[tally]
	// hang is how long apps with a number of hangFrom or more wait before they hang up, in ns: an answer
	// now and then, just before the time is over, would be another case.
	hang, hangFrom atomic.Int64
	closed         chan struct{}
}

// tally counts the arrivals of one epoch: a series of samples, each told to each app.
type tally struct {
	epoch, samples int
	// from and to bound the apps that count.
	from, to  int
	expected  int64
	told      []atomic.Uint64 // bit (app-from) * samples + sample
	count     atomic.Int64
	repeated  atomic.Int64
	first     atomic.Int64 // ns
	last      atomic.Int64
	begun     chan struct{}
	done      chan struct{}
	arrivedAt []atomic.Int64 // ns by bit; nil when only counting
}

// appHost is the loopback address of an app.
func appHost(app int) string { return fmt.Sprintf("127.1.%d.%d", app/250, 1+app%250) }

// appURL is where an app takes its notifications.
func appURL(app, port int) string {
	return "http://" + net.JoinHostPort(appHost(app), strconv.Itoa(port)) + "/" + strconv.Itoa(app)
}

func startReceiver(ctx context.Context) (*receiver, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "0.0.0.0:0") // of loopback every address is needed
	if err != nil {
		return nil, fmt.Errorf("start the receivers: %w", err)
	}
	r := &receiver{port: l.Addr().(*net.TCPAddr).Port, closed: make(chan struct{})}
	r.hangFrom.Store(math.MaxInt64)
	r.server = &http.Server{Handler: http.HandlerFunc(r.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = r.server.Serve(loopbackOnly{l}) }()
	return r, nil
}

func (r *receiver) stop() {
	close(r.closed)
	_ = r.server.Close()
}

// loopbackOnly hangs up on other machines.
type loopbackOnly struct{ net.Listener }

// Accept returns the next connection from this machine.
func (l loopbackOnly) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if a, ok := c.RemoteAddr().(*net.TCPAddr); ok && a.IP.IsLoopback() {
			return c, nil
		}
		_ = c.Close()
	}
}

// expect starts to count a new epoch of samples told to the apps [from, to).
func (r *receiver) expect(epoch, samples, from, to int, times bool) *tally {
	n := samples * (to - from)
	t := &tally{
		epoch: epoch, samples: samples, from: from, to: to, expected: int64(n), told: make([]atomic.Uint64, n/64+1),
		begun: make(chan struct{}), done: make(chan struct{}),
	}
	if times {
		t.arrivedAt = make([]atomic.Int64, n)
	}
	r.now.Store(t)
	return t
}

// setHang makes the apps from a number on wait and then hang up; zero ends it.
func (r *receiver) setHang(from int, d time.Duration) {
	r.hangFrom.Store(int64(from))
	r.hang.Store(int64(d))
}

func buffers() *sync.Pool { return &sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }} }

var bodies = buffers() //nolint:gochecknoglobals // buffers have no state

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	buf := bodies.Get().(*[]byte)
	defer bodies.Put(buf)
	n, err := io.ReadFull(req.Body, *buf)
	if err == nil || n == 0 {
		http.Error(w, "a notification is shorter", http.StatusBadRequest)
		return
	}
	app, err := strconv.Atoi(req.URL.Path[1:])
	if err != nil {
		http.NotFound(w, req)
		return
	}
	if d := r.hang.Load(); d > 0 && int64(app) >= r.hangFrom.Load() {
		select {
		case <-time.After(time.Duration(d)):
			panic(http.ErrAbortHandler)
		case <-req.Context().Done():
			return
		case <-r.closed:
			return
		}
	}
	if t := r.now.Load(); t != nil {
		t.take(app, (*buf)[:n], now)
	}
	w.WriteHeader(http.StatusOK)
}

// versionName names a sample on its way through the service, which repeats it to the apps.
func versionName(epoch, sample int) string {
	return "r" + strconv.Itoa(epoch) + "." + strconv.Itoa(sample)
}

// sampleOf reads what versionName wrote out of a notification.
func sampleOf(body []byte) (epoch, sample int, ok bool) {
	_, rest, found := bytes.Cut(body, []byte(`"VersionName":"r`))
	if !found {
		return 0, 0, false
	}
	name, _, found := bytes.Cut(rest, []byte(`"`))
	if !found {
		return 0, 0, false
	}
	e, s, found := bytes.Cut(name, []byte("."))
	if !found {
		return 0, 0, false
	}
	epoch, err1 := strconv.Atoi(string(e))
	sample, err2 := strconv.Atoi(string(s))
	return epoch, sample, err1 == nil && err2 == nil
}

// take counts a notification once.
func (t *tally) take(app int, body []byte, now time.Time) {
	epoch, sample, ok := sampleOf(body)
	if !ok || epoch != t.epoch || sample >= t.samples || app < t.from || app >= t.to {
		return
	}
	at := (app-t.from)*t.samples + sample
	bit := uint64(1) << (at % 64)
	if t.told[at/64].Or(bit)&bit != 0 {
		t.repeated.Add(1)
		return
	}
	if t.arrivedAt != nil {
		t.arrivedAt[at].Store(now.UnixNano())
	}
	n := t.count.Add(1)
	if n == 1 {
		t.first.Store(now.UnixNano())
		close(t.begun)
	}
	if n == t.expected {
		t.last.Store(now.UnixNano())
		close(t.done)
	}
}

// wait waits until c is closed.
func (t *tally) wait(ctx context.Context, c <-chan struct{}, within time.Duration) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("only %d of %d notifications arrived within %v", t.count.Load(), t.expected, within)
	}
}

// rate is arrivals per second between the first and the last.
func (t *tally) rate() float64 {
	return float64(t.expected-1) / time.Duration(t.last.Load()-t.first.Load()).Seconds()
}

// since is the time from a moment to the last arrival.
func (t *tally) since(start time.Time) time.Duration {
	return time.Duration(t.last.Load() - start.UnixNano())
}
