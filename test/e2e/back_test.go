package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// TestAnAppThatIsBackHearsSoon: while an app refuses connections, until its gate stays closed for as
// long as it may, each tenant flaps ten times. Once it is back it hears the first push within
// breaker.open_for_max and 5 s, and exactly one status of each tenant.
func TestAnAppThatIsBackHearsSoon(t *testing.T) {
	t.Parallel()
	const (
		openForMax = 4 * time.Second // the stack's setting; after gates of 1 and 2 s they are as long
		slack      = 5 * time.Second
		flaps      = 10
	)
	s := newStack(t, "everysec")
	s.serve("api")
	s.serve("worker")
	names := tenantNames(200)
	r := newReceiver(t, "app1")
	s.register(r, "ES256", names)
	tr := newTruth()
	s.all(tr, "before", names, 3)
	awaitSettled(t, tr, 20*time.Second, r)
	s.quiet(r)
	r.mark()
	before := r.taken()
	r.stop()
	for flap := range flaps {
		s.all(tr, fmt.Sprintf("flap%d", flap), names, 2+flap%2)
		wait(t, 700*time.Millisecond)
	}
	if n := r.taken(); n != before {
		t.Fatalf("%d notifications were taken although the app was away", n-before)
	}
	r.start()
	back := time.Now()
	redistest.Eventually(t, openForMax+slack+20*time.Second, "the app hears something", func() bool { return r.taken() > before })
	took := time.Since(back)
	if took > openForMax+slack {
		t.Errorf("the first push came %v after the app was back, want within %v", took, openForMax+slack)
	}
	awaitSettled(t, tr, 20*time.Second, r)
	s.quiet(r)
	r.healthy()
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, seen := range r.tenants {
		if seen.statuses != 1 {
			t.Errorf("%s: %d statuses after %d flaps, want 1", name, seen.statuses, flaps)
		}
	}
	t.Logf("the first of %d pushes came %v after the app was back; %d changes were accepted meanwhile", r.posts-before, took.Round(time.Millisecond), flaps*len(names))
}

// taken is how many notifications the receiver took.
func (r *receiver) taken() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.posts
}
