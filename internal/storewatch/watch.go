package storewatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
)

const (
	// Every is the pause between two looks.
	Every = time.Second
	// lookWithin bounds one look.
	lookWithin = 2 * time.Second
	// claimAfter is after how many looks of Run that find a changed store the first admin token is put in:
	// by then the other processes have looked, too, and none takes the token for a sign that all is well.
	claimAfter = 3
)

var (
	// ErrChanged reports a store that is not the one the process began with.
	ErrChanged = errors.New("the store changed and is not used")
	errSlow    = errors.New("the look at the store took too long")
)

// Store is looked at and accepted; *registry.Store is one.
type Store interface {
	CheckStore(ctx context.Context, m registry.StoreMemory) (registry.StoreCheck, error)
	AcceptStore(ctx context.Context, identity string, m registry.StoreMemory, actor registry.Actor) (was string, err error)
}

// Blocker stands before all other use of the store.
type Blocker interface {
	// Block refuses all use with a reason, Open ends that.
	Block(reason error)
	Unblock()
	// Bypass returns a context that a shut gate lets through.
	Bypass(ctx context.Context) context.Context
}

// Options of a Watch.
type Options struct {
	Store   Store
	Blocker Blocker
	// Claim does what a start does before it uses the store: it checks that it is for this service, and
	// puts the first admin token in. It may be repeated.
	Claim func(ctx context.Context) error
	// Process names this process, as no other.
	Process string
	Metrics *Metrics
	Log     *slog.Logger
}

// Watch looks at the store. New, Begin, then Run once; all other methods are safe for concurrent use.
type Watch struct {
	opts Options
	// status is what the last look found; looks counts the looks that began.
	status atomic.Pointer[status]
	looks  atomic.Uint64
	// turn is held by whoever looks, and guards memory and seen.
	turn   chan struct{}
	memory registry.StoreMemory
	// seen is the last look that succeeded.
	seen uint64
}

// New returns a Watch that has not looked yet.
func New(opts Options) *Watch {
	w := &Watch{opts: opts, turn: make(chan struct{}, 1), memory: registry.StoreMemory{Process: opts.Process}}
	w.status.Store(&status{})
	return w
}

// Begin takes the store as it is.
func (w *Watch) Begin(ctx context.Context) error { return w.Confirm(ctx) }

// Run looks every second until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for changed := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		switch err := w.Confirm(ctx); {
		case err == nil:
			changed = 0
		case !errors.Is(err, ErrChanged): // readiness and the metrics of Redis tell of it
			w.opts.Log.DebugContext(ctx, "the store could not be looked at", "err", err)
		default:
			if changed++; changed == claimAfter && !w.claimStore(ctx) {
				changed--
			}
		}
	}
}

// claimStore puts the first admin token into a changed store, so that somebody may accept it.
func (w *Watch) claimStore(ctx context.Context) bool {
	ctx, cancel := context.WithTimeoutCause(w.AllowChangedStore(ctx), lookWithin, errSlow)
	defer cancel()
	if err := w.opts.Claim(ctx); err != nil {
		w.opts.Log.WarnContext(ctx, "the first admin token could not be put into the changed store", "err", err)
		return false
	}
	return true
}

// ChangedMessage says why the store may not be used, in words for operators; empty while it may.
func (w *Watch) ChangedMessage() string { return w.status.Load().changed.operatorMessage() }

// WentBack reports that the store lost writes it had acknowledged, and was not accepted since.
func (w *Watch) WentBack() bool { return w.status.Load().wentBack }

// AllowChangedStore returns a context for calls that may use a store that changed.
func (w *Watch) AllowChangedStore(ctx context.Context) context.Context {
	return w.opts.Blocker.Bypass(ctx)
}

// Confirm returns nil when the store is the one the process began with, by a look that began after the
// call: callers that come at once share one. Errors: ErrChanged; any other decides nothing.
func (w *Watch) Confirm(ctx context.Context) error {
	asked := w.looks.Load()
	release, err := w.acquireTurn(ctx)
	if err != nil {
		return err
	}
	defer release()
	if w.seen <= asked {
		if err := w.checkStore(ctx); err != nil {
			return err
		}
	}
	if w.status.Load().changed != inOrder {
		return w.status.Load().changed.asError()
	}
	return nil
}

// Accept makes this and all other processes take the store as it is. Errors: those of Options.Claim.
func (w *Watch) Accept(ctx context.Context, actor registry.Actor) (Accepted, error) {
	release, err := w.acquireTurn(ctx)
	if err != nil {
		return Accepted{}, err
	}
	defer release()
	if err := w.opts.Claim(w.AllowChangedStore(ctx)); err != nil {
		return Accepted{}, fmt.Errorf("accept the store: %w", err)
	}
	found := w.status.Load().stateName()
	identity := registry.NewStoreIdentity()
	if _, err := w.opts.Store.AcceptStore(w.AllowChangedStore(ctx), identity, w.memory, actor); err != nil {
		return Accepted{}, err
	}
	// a failure here hides nothing: the next look takes the store
	return Accepted{Identity: identity, Found: found}, w.checkStore(ctx)
}

// Accepted is a store that was accepted.
type Accepted struct {
	// Identity is its new one.
	Identity string
	// Found is how this process found the store: in_order, went_back, gone or other.
	Found string
}

func (w *Watch) acquireTurn(ctx context.Context) (release func(), err error) {
	select {
	case w.turn <- struct{}{}:
		return func() { <-w.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to look at the store: %w", context.Cause(ctx))
	}
}

// checkStore compares once. The caller has the turn.
func (w *Watch) checkStore(ctx context.Context) error {
	n := w.looks.Add(1)
	past, cancel := context.WithTimeoutCause(w.AllowChangedStore(ctx), lookWithin, errSlow)
	defer cancel()
	found, err := w.opts.Store.CheckStore(past, w.memory)
	if err != nil {
		return err // nothing is decided
	}
	w.seen = n
	was := w.status.Load()
	now, memory := was.applyCheck(found, w.memory)
	w.memory = memory
	if now.changed != inOrder {
		w.opts.Blocker.Block(now.changed.asError())
	}
	w.status.Store(&now)
	if now.changed == inOrder {
		w.opts.Blocker.Unblock()
	}
	w.opts.Metrics.setStatus(now)
	w.logTransition(ctx, *was, now, found)
	return nil
}

// logTransition logs what is new.
func (w *Watch) logTransition(ctx context.Context, was, now status, found registry.StoreCheck) {
	switch {
	case now.changed != was.changed && now.changed != inOrder:
		w.opts.Log.ErrorContext(ctx, "the store changed and is not used until it is accepted or restored", "detail", now.changed.operatorMessage())
	case was.changed != inOrder && now.changed == inOrder:
		w.opts.Log.WarnContext(ctx, "the store is used again", "accepted", found.Match == registry.StoreTaken)
	}
	if found.Lower {
		w.opts.Log.WarnContext(ctx, "the store went back: it lost writes that it had acknowledged; a fast comparison was asked for")
	}
}
