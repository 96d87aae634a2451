package feed

import (
	"context"
	"fmt"
	"time"
)

// awaitRevision returns the newest revision when it is above the known one, the patience is over, or the feed stops.
func (f *Feed) awaitRevision(ctx context.Context, known int64, patience time.Duration) (int64, error) {
	f.mu.Lock()
	if f.waiting >= f.opts.Waiters {
		f.mu.Unlock()
		return 0, ErrBusy
	}
	f.waiting++
	f.opts.Metrics.setWaiters(f.waiting)
	first := f.waiting == 1
	f.mu.Unlock()
	defer f.stopWaiting()
	if first {
		f.PollNow()
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		f.mu.Lock()
		now, changed := f.revision, f.changed
		f.mu.Unlock()
		if now > known {
			return now, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return now, nil
		case <-f.stopping:
			return now, nil
		case <-ctx.Done():
			return 0, fmt.Errorf("feed: %w", context.Cause(ctx))
		}
	}
}

func (f *Feed) stopWaiting() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting--
	f.opts.Metrics.setWaiters(f.waiting)
}

// PollNow makes the poller read the revision at once if a reader waits: this process wrote an app.
func (f *Feed) PollNow() {
	select {
	case f.pollNow <- struct{}{}:
	default:
	}
}

// Stop answers all waiting and all later readers without waiting.
func (f *Feed) Stop() { f.stop.Do(func() { close(f.stopping) }) }

// Run reads the revision while a reader waits, until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	tick := time.NewTicker(f.opts.Poll)
	defer tick.Stop()
	silent := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.pollNow:
		case <-tick.C:
		}
		f.mu.Lock()
		waiting := f.waiting
		f.mu.Unlock()
		if waiting == 0 {
			continue
		}
		err := f.pollRevision(ctx)
		if err != nil && !silent && ctx.Err() == nil {
			f.opts.Log.WarnContext(ctx, "the feed's revision cannot be read; engines wait on", "waiting", waiting, "err", err)
		}
		silent = err != nil
	}
}

func (f *Feed) pollRevision(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollWithin)
	defer cancel()
	_, err := f.readRevision(ctx)
	return err
}
