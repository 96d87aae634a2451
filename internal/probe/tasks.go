package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// waitsAfter is how long a probe keeps its worker: an endpoint that has not answered by then hangs, and
// others must not wait for it.
const waitsAfter = 200 * time.Millisecond

// HangingPerPlace is how many probes may hang for each that may be made at once.
const HangingPerPlace = 8

// errStopped reports a probe asked for after Stop.
var errStopped = errors.New("probes are stopping")

// tasks owns the probes that queue tasks ask for.
type tasks struct {
	// most is how many may go on without their callers.
	most    int
	metrics *Metrics

	mu      sync.Mutex
	stopped bool
	hanging int
	running sync.WaitGroup
}

// runOrDetach runs f and returns its error, or nil as soon as f takes longer than waitsAfter and goes on without its
// caller; failed is told the error then. While there is a caller, the end of ctx ends f.
func (t *tasks) runOrDetach(ctx context.Context, f func(context.Context) error, failed func(error)) error {
	if !t.addTask() {
		return errStopped
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unlink := context.AfterFunc(ctx, cancel)
	ended := make(chan error, 1)
	var over, left bool // t.mu guards both
	go func() {
		defer t.running.Done()
		defer cancel()
		err := f(run)
		t.withLock(func() {
			if over = true; left {
				t.addHanging(-1)
			}
		})
		if left && err != nil {
			failed(err)
		}
		ended <- err
	}()
	patience := time.NewTimer(waitsAfter)
	defer patience.Stop()
	select {
	case err := <-ended:
		return err
	case <-patience.C:
	}
	stays := false
	t.withLock(func() {
		if stays = over || t.hanging >= t.most; !stays {
			left = true
			t.addHanging(1)
		}
	})
	if stays {
		return <-ended
	}
	unlink()
	return nil
}

// addHanging counts a probe that began or ended to hang; t.mu is held.
func (t *tasks) addHanging(n int) {
	t.hanging += n
	t.metrics.setHanging(t.hanging)
}

func (t *tasks) addTask() (ok bool) {
	t.withLock(func() {
		if ok = !t.stopped; ok {
			t.running.Add(1)
		}
	})
	return ok
}

func (t *tasks) withLock(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

// stop lets nothing more begin and waits for what runs.
func (t *tasks) stop(ctx context.Context) error {
	t.withLock(func() { t.stopped = true })
	done := make(chan struct{})
	go func() {
		t.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for probes to end: %w", context.Cause(ctx))
	}
}
