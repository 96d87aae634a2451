package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// waitsAfter is how long a probe keeps its worker. Other probes must not wait for a slower endpoint.
const waitsAfter = 200 * time.Millisecond

// HangingPerPlace is how many slow probes may go on for each worker.
const HangingPerPlace = 8

// errStopped reports a probe that was requested after Stop.
var errStopped = errors.New("probes are stopping")

// tasks runs the probes of queue tasks.
type tasks struct {
	// most is how many may go on without their callers.
	most    int
	metrics *Metrics

	mu      sync.Mutex
	stopped bool
	hanging int
	running sync.WaitGroup
}

// runOrDetach runs f and returns its error. When f takes longer than waitsAfter, it returns nil and f goes on without
// its caller; an error of f is then passed to failed. Until then, the end of ctx ends f.
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

// addHanging changes the count of probes without a caller. t.mu is held.
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

// stop refuses new tasks and waits for the running ones.
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
