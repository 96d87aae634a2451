package e2e_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// watch makes a receiver take 20 ms for each post, counts posts whose connection was cut before the
// answer, and notes when posts arrive.
type watch struct {
	cut      atomic.Int64
	mu       sync.Mutex
	arrivals []time.Time
}

func (w *watch) behave(_ http.ResponseWriter, req *http.Request) bool {
	w.mu.Lock()
	w.arrivals = append(w.arrivals, time.Now())
	w.mu.Unlock()
	select {
	case <-time.After(20 * time.Millisecond): // the receiver's own work
		return false
	case <-req.Context().Done():
		w.cut.Add(1)
		return true
	}
}

// longestPause is the longest time without a post that began after from.
func (w *watch) longestPause(from time.Time) (longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := from
	for _, at := range w.arrivals {
		if at.Before(from) {
			continue
		}
		longest = max(longest, at.Sub(last))
		last = at
	}
	return longest
}

// TestTerminateHandsOver stops one of two workers under full load as an operator would: no post is cut
// off, so no receiver hears anything twice, and the other worker takes on at once.
func TestTerminateHandsOver(t *testing.T) {
	s := newStack(t, "everysec")
	s.serve("api")
	first := s.serve("worker")
	s.serve("worker")
	names := tenantNames(300)
	var rs []*receiver
	var watches []*watch
	for _, id := range []string{"app1", "app2", "app3", "app4"} {
		r, w := newReceiver(t, id), &watch{}
		r.behave = w.behave
		s.register(r, "ES256", names)
		rs, watches = append(rs, r), append(watches, w)
	}
	tr := newTruth()
	l := s.load(tr, names, 4, 20)
	wait(t, 2*time.Second)
	began := time.Now()
	if err := first.terminate(); err != nil {
		t.Errorf("worker ended with %v", err)
	}
	took := time.Since(began)
	wait(t, 2*time.Second)
	l.end(t)
	awaitSettled(t, tr, 30*time.Second, rs...)
	report(t, "SIGTERM under load, worker gone after "+took.Round(time.Millisecond).String(), tr, l, rs)
	pause := time.Duration(0)
	for i, r := range rs {
		if n := watches[i].cut.Load(); n != 0 {
			t.Errorf("%d posts to %s were cut", n, r.id)
		}
		if r.duplicates != 0 {
			t.Errorf("%s was told %d notifications twice although the stop was soft", r.id, r.duplicates)
		}
		pause = max(pause, watches[i].longestPause(began))
	}
	t.Logf("0 posts cut; the longest pause of any app afterwards: %v", pause.Round(time.Millisecond))
	const most = 5 * time.Second
	if pause > most || took > most {
		t.Errorf("an app heard nothing for %v, and the worker took %v to end: want at most %v each", pause, took, most)
	}
}

// TestASecondSignalEndsAtOnce: whoever does not want to wait for what is in flight need not.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec", "LAMPLIGHTER_DELIVERY_TIMEOUT=15s", "LAMPLIGHTER_DELIVERY_ENTRY_LEASE=25s")
	p := s.serve("api,worker")
	r := newReceiver(t, "app1")
	arrived := make(chan struct{}, 1)
	r.behave = func(_ http.ResponseWriter, req *http.Request) bool {
		select {
		case arrived <- struct{}{}:
		default:
		}
		<-req.Context().Done() // hangs until the caller is gone
		return true
	}
	s.register(r, "ES256", []string{"Cust1"})
	s.all(newTruth(), "hangs", []string{"Cust1"}, 2)
	select {
	case <-arrived:
	case <-time.After(20 * time.Second):
		t.Fatal("no post arrived")
	}
	signal := func() {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	signal()
	redistest.Eventually(t, 10*time.Second, "the API is closed, so that the first signal was heard", func() bool {
		_, _, err := s.try(t.Context(), http.MethodGet, "/v1/apps", "", nil)
		return err != nil
	})
	if p.gone() {
		t.Fatal("the process did not wait for the post in flight, so that the test proves nothing")
	}
	began := time.Now()
	signal()
	redistest.Eventually(t, 10*time.Second, "the process is gone", p.gone)
	t.Logf("gone %v after the second signal", time.Since(began).Round(time.Millisecond))
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Errorf("it ended with %v, want by the signal", p.exit)
	}
}
