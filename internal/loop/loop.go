package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// Store keeps leases and places; *registry.Store implements it.
type Store interface {
	TakeLoopLease(ctx context.Context, name, holder string, ttl time.Duration, write *registry.LoopState) (registry.LoopLease, error)
	ReleaseLease(ctx context.Context, name, holder string) error
}

// Report is what a step did.
type Report struct {
	// Next is where the next step continues. End is true if the round has ended. A failed step continues behind what it tried.
	Next string
	End  bool
	// Passed are the errors of single items, which were skipped until the next round.
	Passed []error
	// Note is stored with the end of a round.
	Note string
}

// Options of a Loop.
type Options struct {
	// Name is the name of the loop, of its lease and of its series.
	Name string
	// Step does one piece of a round, from a place that an earlier step returned, perhaps in another process or version. A place
	// that it cannot read MUST count as the start, which is empty. It is cancelled after Within. An error means that the store
	// failed, and that the round is not complete.
	Step func(ctx context.Context, cursor string) (Report, error)
	// Every is how often a round begins, Within bounds a step. A process keeps the lease for Lease without renewing it.
	Every, Within, Lease time.Duration
	Store                Store
	Holder               string
	// Seen, if set, is called with the loop's progress, whichever process made it, each time this process takes its lease.
	Seen    func(registry.LoopState)
	Metrics *Metrics
	Log     *slog.Logger
	// Now is the clock; nil for the machine's.
	Now func() time.Time
}

const (
	// releaseWithin bounds the release of the lease; a lease that is not released expires.
	releaseWithin = 2 * time.Second
	// retryAfter is the longest wait after a step that failed and made no progress.
	retryAfter = time.Second
	// logEvery is the shortest time between two log lines about one loop's failures.
	logEvery = time.Minute
	// shownErrors is how many of a step's errors a log line shows.
	shownErrors = 5
)

// Loop is one process's part in a loop. New, then Run once.
type Loop struct {
	opts Options
	// kept is the last known lease and state, at the time when they were read.
	kept registry.LoopLease
	at   time.Time
	// began is when this process began the open round, zero if another process did.
	began  time.Time
	logged time.Time
}

// New returns a Loop.
func New(o Options) *Loop {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Metrics.declareSeries(o.Name)
	return &Loop{opts: o}
}

// Run takes turns until ctx ends, and then releases the lease, so that another process continues at its next turn.
func (l *Loop) Run(ctx context.Context) {
	defer l.releaseLease(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if ctx.Err() != nil { // both channels were ready
			return
		}
		wait, err := l.TakeTurn(ctx)
		if err != nil && ctx.Err() == nil {
			l.logFailure(ctx, err)
		}
		timer.Reset(wait)
	}
}

func (l *Loop) logFailure(ctx context.Context, err error) {
	if now := l.opts.Now(); now.Sub(l.logged) >= logEvery {
		l.logged = now
		l.opts.Log.WarnContext(ctx, "a loop could not do all of its work; it continues", "loop", l.opts.Name, "err", err)
	}
}

func (l *Loop) releaseLease(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	l.kept.Held = false
	if err := l.opts.Store.ReleaseLease(ctx, l.opts.Name, l.opts.Holder); err != nil {
		l.opts.Log.WarnContext(ctx, "a loop's lease was not released; it will expire", "loop", l.opts.Name, "err", err)
	}
}

// TakeTurn does one step if this process holds the lease and a step is due, and returns the time until the next turn.
func (l *Loop) TakeTurn(ctx context.Context) (time.Duration, error) {
	if !l.kept.Held || !l.kept.Open || l.opts.Now().Sub(l.at) > l.opts.Lease/2 { // it was suspended, or a round may begin
		if err := l.takeLease(ctx, nil); err != nil {
			return l.retryDelay(), err
		}
	}
	if !l.kept.Held {
		return l.opts.Every, nil
	}
	state := l.kept.LoopState
	if !state.Open {
		// A clock that goes back after a failover must not stop the loop.
		if wait := state.Began.Add(l.opts.Every).Sub(l.kept.Now); wait > 0 && wait <= l.opts.Every {
			return wait, nil
		}
		state.Open, state.Faults, state.Began = true, 0, l.kept.Now
		l.began = l.opts.Now()
	}
	return l.runStep(ctx, state)
}

func (l *Loop) retryDelay() time.Duration { return min(l.opts.Every, retryAfter) }

func (l *Loop) runStep(ctx context.Context, state registry.LoopState) (time.Duration, error) {
	sctx, cancel := context.WithTimeout(ctx, l.opts.Within)
	r, err := l.opts.Step(sctx, state.Cursor)
	cancel()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx) // the next holder continues from the start of this step
	}
	stuck := err != nil && !r.End && r.Next == state.Cursor
	if err != nil {
		state.Faults++
	}
	state.Cursor, state.Note, state.Open = r.Next, r.Note, !r.End
	l.opts.Metrics.countFailures(l.opts.Name, len(r.Passed), err != nil)
	kerr := l.takeLease(ctx, &state)
	if r.End && kerr == nil && l.kept.Held && !l.kept.Anew {
		l.opts.Metrics.countRound(l.opts.Name, l.opts.Now().Sub(l.began), !l.began.IsZero(), state.Faults == 0)
		l.began = time.Time{}
	}
	err = l.joinErrors(r.Passed, err, kerr)
	switch {
	case stuck || kerr != nil:
		return l.retryDelay(), err
	case !r.End:
		return 0, err
	default:
		return max(state.Began.Add(l.opts.Every).Sub(l.kept.Now), 0), err
	}
}

// joinErrors joins the errors of a step, and names at most shownErrors items.
func (l *Loop) joinErrors(passed []error, errs ...error) error {
	if n := len(passed); n > shownErrors {
		passed = append(append([]error(nil), passed[:shownErrors]...), fmt.Errorf("and %d more", n-shownErrors))
	}
	return errors.Join(append(errs, passed...)...)
}

// takeLease takes or renews the lease, and first writes the loop's progress if write is set.
func (l *Loop) takeLease(ctx context.Context, write *registry.LoopState) error {
	ctx, cancel := context.WithTimeout(ctx, l.opts.Within)
	defer cancel()
	at := l.opts.Now()
	kept, err := l.opts.Store.TakeLoopLease(ctx, l.opts.Name, l.opts.Holder, l.opts.Lease, write)
	if err != nil {
		l.kept.Held = false // a lease that cannot be renewed counts as lost
		l.opts.Metrics.countFailures(l.opts.Name, 0, true)
		return fmt.Errorf("loop %s: %w", l.opts.Name, err)
	}
	if !kept.Held || kept.Anew {
		l.began = time.Time{}
	}
	l.kept, l.at = kept, at
	l.opts.Metrics.setCompleted(l.opts.Name, kept.Completed)
	if l.opts.Seen != nil {
		l.opts.Seen(kept.LoopState)
	}
	return nil
}
