package storewatch_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/storewatch"
)

// fake is a store and the gate before it.
type fake struct {
	mu       sync.Mutex
	look     registry.StoreCheck
	err      error
	looks    int
	asked    []registry.StoreMemory
	accepted []string
	claims   int
	claimErr error
	shut     error
	// slow blocks looks until it is closed.
	slow chan struct{}
}

type past struct{}

func (f *fake) Block(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = err
}

func (f *fake) Unblock() { f.Block(nil) }

func (*fake) Bypass(ctx context.Context) context.Context { return context.WithValue(ctx, past{}, true) }

func (f *fake) CheckStore(ctx context.Context, m registry.StoreMemory) (registry.StoreCheck, error) {
	f.mu.Lock()
	f.looks++
	f.asked = append(f.asked, m)
	l, err, slow := f.look, f.err, f.slow
	f.mu.Unlock()
	if slow != nil {
		select {
		case <-slow:
		case <-ctx.Done():
			return registry.StoreCheck{}, context.Cause(ctx)
		}
	}
	if ctx.Value(past{}) == nil {
		return l, errors.New("the look cannot pass the gate")
	}
	return l, err
}

func (f *fake) AcceptStore(ctx context.Context, identity string, _ registry.StoreMemory, _ registry.Actor) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Value(past{}) == nil {
		return "", errors.New("accepting cannot pass the gate")
	}
	f.accepted = append(f.accepted, identity)
	f.look = registry.StoreCheck{Match: registry.StoreTaken, Now: registry.StoreMemory{Process: "p", Identity: identity, Count: 1}}
	return "", f.err
}

func (f *fake) claim(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.claims++
	if ctx.Value(past{}) == nil {
		return errors.New("the claim cannot pass the gate")
	}
	return f.claimErr
}

// finds sets what the next looks find.
func (f *fake) finds(m registry.StoreMatch, lower bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look = registry.StoreCheck{Match: m, Lower: lower, Now: registry.StoreMemory{Process: "p", Identity: "A", Count: int64(f.looks)}}
	f.err = err
}

// refuses sets the error of the next claims.
func (f *fake) refuses(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.claimErr = err
}

func newWatch(t *testing.T) (*storewatch.Watch, *fake, *prometheus.Registry) {
	t.Helper()
	f, reg := &fake{}, prometheus.NewRegistry()
	w := storewatch.New(storewatch.Options{
		Store: f, Blocker: f, Claim: f.claim, Process: "p", Metrics: storewatch.NewMetrics(reg), Log: slog.New(slog.DiscardHandler),
	})
	f.finds(registry.StoreTaken, false, nil)
	if err := w.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w, f, reg
}

func TestStates(t *testing.T) {
	t.Parallel()
	w, f, reg := newWatch(t)
	for i, step := range []struct {
		match                   registry.StoreMatch
		lower                   bool
		err                     error
		changed, wentBack, fail bool
	}{
		{registry.StoreSame, false, nil, false, false, false},
		{registry.StoreGone, false, io.EOF, false, false, true}, // an error decides nothing
		{registry.StoreGone, false, nil, true, false, true},
		{registry.StoreSame, false, io.EOF, true, false, true}, // nor does it end anything
		{registry.StoreOther, false, nil, true, false, true},
		{registry.StoreSame, true, nil, false, true, false}, // restored, from an older copy
		{registry.StoreSame, false, nil, false, true, false},
		{registry.StoreGone, false, nil, true, true, true},
		{registry.StoreSame, false, nil, false, true, false},
		{registry.StoreTaken, false, nil, false, false, false},
	} {
		f.finds(step.match, step.lower, step.err)
		err := w.Confirm(t.Context())
		if (err != nil) != step.fail || errors.Is(err, storewatch.ErrChanged) != (step.fail && step.err == nil) {
			t.Errorf("step %d: %v", i, err)
		}
		if (w.ChangedMessage() != "") != step.changed || w.WentBack() != step.wentBack || (f.shut != nil) != step.changed {
			t.Errorf("step %d: changed %q, went back %v, gate %v", i, w.ChangedMessage(), w.WentBack(), f.shut)
		}
		if step.changed && !errors.Is(f.shut, storewatch.ErrChanged) {
			t.Errorf("step %d: the gate says %v", i, f.shut)
		}
		gone, other := 0.0, 0.0
		switch {
		case step.changed && step.match == registry.StoreOther:
			other = 1
		case step.changed:
			gone = 1
		}
		if n, err := testutil.GatherAndCount(reg, "lamplighter_store_changed"); n != 2 || err != nil {
			t.Fatalf("%d series, %v", n, err)
		}
		if got := series(t, reg, "gone"); got != gone {
			t.Errorf("step %d: gone is %v, want %v", i, got, gone)
		}
		if got := series(t, reg, "other"); got != other {
			t.Errorf("step %d: other is %v, want %v", i, got, other)
		}
	}
	// what is not this process's is not remembered
	if last := f.asked[len(f.asked)-1]; last.Identity != "A" {
		t.Errorf("asked with %+v", last)
	}
}

func series(t *testing.T, reg *prometheus.Registry, reason string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == reason {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no series of %s", reason)
	return 0
}

func TestAcceptTakesTheStore(t *testing.T) {
	t.Parallel()
	w, f, _ := newWatch(t)
	f.finds(registry.StoreGone, false, nil)
	_ = w.Confirm(t.Context())
	f.claimErr = registry.ErrOtherEnvironment
	if _, err := w.Accept(t.Context(), registry.Actor{}); !errors.Is(err, registry.ErrOtherEnvironment) || len(f.accepted) != 0 || w.ChangedMessage() == "" {
		t.Errorf("another environment's store: %v, accepted %v", err, f.accepted)
	}
	f.claimErr = nil
	got, err := w.Accept(t.Context(), registry.Actor{})
	if err != nil || got.Found != "gone" || got.Identity != f.accepted[0] || w.ChangedMessage() != "" || f.shut != nil {
		t.Errorf("= %+v, %v; changed %q", got, err, w.ChangedMessage())
	}
}

// TestConfirmLooksAfterTheCall: those who come while a look is under way share the next one, and do not take
// the word of the one that began before them.
func TestConfirmLooksAfterTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f, _ := newWatch(t)
		f.finds(registry.StoreSame, false, nil)
		slow := make(chan struct{})
		f.mu.Lock()
		f.looks, f.slow = 0, slow
		f.mu.Unlock()
		first := make(chan error, 1)
		go func() { first <- w.Confirm(t.Context()) }()
		synctest.Wait()
		late := make(chan error, 10)
		for range cap(late) {
			go func() { late <- w.Confirm(t.Context()) }()
		}
		synctest.Wait()
		f.finds(registry.StoreGone, false, nil) // the look under way has its answer already
		close(slow)
		if err := <-first; err != nil {
			t.Errorf("the first: %v", err)
		}
		for range cap(late) {
			if err := <-late; !errors.Is(err, storewatch.ErrChanged) {
				t.Errorf("a later one: %v", err)
			}
		}
		if f.looks != 2 {
			t.Errorf("%d looks for 11 callers, want 2", f.looks)
		}
	})
}

// TestRunClaimsLate: the first admin token is put in when all others have noticed, once, and again until it works.
func TestRunClaimsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, f, _ := newWatch(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.Run(ctx)
			close(ended)
		}()
		f.finds(registry.StoreGone, false, nil)
		claims := func(after time.Duration, want int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.claims != want {
				t.Errorf("%d claims, want %d", f.claims, want)
			}
		}
		claims(2500*time.Millisecond, 0)
		f.refuses(io.EOF)
		claims(2*time.Second, 2)
		f.refuses(nil)
		claims(time.Second, 3)
		claims(time.Minute, 3)
		f.finds(registry.StoreSame, false, nil)
		claims(time.Minute, 3)
		f.finds(registry.StoreOther, false, nil)
		claims(time.Minute, 4)
		// a look that hangs ends by itself
		f.mu.Lock()
		f.slow, f.looks = make(chan struct{}), 0
		f.mu.Unlock()
		time.Sleep(time.Minute)
		cancel()
		<-ended
		if w.ChangedMessage() == "" || f.looks < 10 {
			t.Errorf("after a minute of hanging: %d looks, changed %q", f.looks, w.ChangedMessage())
		}
	})
}
