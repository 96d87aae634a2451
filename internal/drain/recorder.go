package drain

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// AttemptStore keeps recent attempts.
type AttemptStore interface {
	RecordAttempts(ctx context.Context, app partner.ClientID, attempts []delivery.Attempt) error
}

// Recorder writes attempts to the list of deliveries in the background, so that the list does not slow deliveries. A
// crash loses at most one flush of the list and nothing else.
type Recorder struct {
	store AttemptStore
	keep  int
	every time.Duration
	log   *slog.Logger

	mu      sync.Mutex
	pending map[partner.ClientID][]delivery.Attempt
}

// flushEvery is how long an attempt may be missing from the list.
const flushEvery = 200 * time.Millisecond

// All that is pending is bounded as well. When Redis takes attempts more slowly than the apps make them, each app
// keeps its share of pendingInAll, about 300 bytes each, and at least leastPending.
const (
	pendingInAll = 20_000
	leastPending = 16
)

// NewRecorder returns a Recorder that hands over at most keep attempts of an app at a time: older
// ones would be dropped from the list anyway.
func NewRecorder(store AttemptStore, keep int, log *slog.Logger) *Recorder {
	return &Recorder{store: store, keep: max(keep, 1), every: flushEvery, log: log, pending: map[partner.ClientID][]delivery.Attempt{}}
}

// RecordAttempt adds an attempt. It never blocks on I/O.
func (r *Recorder) RecordAttempt(a delivery.Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.pending[a.ClientID]
	keep := min(r.keep, max(pendingInAll/max(len(r.pending), 1), leastPending))
	if len(list) >= 2*keep { // keep the newest; copying once in keep attempts
		list = append(list[:0], list[len(list)-keep:]...)
	}
	r.pending[a.ClientID] = append(list, a)
}

// Run flushes until ctx ends, and once more then.
func (r *Recorder) Run(ctx context.Context) {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.Flush(ctx)
		case <-ctx.Done():
			last, cancel := detachContext(ctx)
			defer cancel()
			r.Flush(last)
			return
		}
	}
}

// Flush hands over what is pending. What cannot be written is dropped.
func (r *Recorder) Flush(ctx context.Context) {
	r.mu.Lock()
	pending := r.pending
	r.pending = make(map[partner.ClientID][]delivery.Attempt, len(pending))
	r.mu.Unlock()
	for app, list := range pending {
		if len(list) > r.keep {
			list = list[len(list)-r.keep:]
		}
		if err := r.store.RecordAttempts(ctx, app, list); err != nil {
			r.log.WarnContext(ctx, "attempts missing from the list of deliveries", "app", app, "attempts", len(list), "err", err)
		}
	}
}
