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
	// Every is the pause between two checks.
	Every = time.Second
	// lookWithin bounds one check.
	lookWithin = 2 * time.Second
	// claimAfter is how many checks of Run in a row must find a changed store before the first admin token is added to it. By
	// then the other processes have checked, too, so none takes the token as a sign of a healthy store.
	claimAfter = 3
)

var (
	// ErrChanged reports that the store is not the one with which the process began.
	ErrChanged = errors.New("the store changed and is not used")
	errSlow    = errors.New("the check of the store took too long")
)

// Store is checked and accepted; *registry.Store implements it.
type Store interface {
	CheckStore(ctx context.Context, m registry.StoreMemory) (registry.StoreCheck, error)
	AcceptStore(ctx context.Context, identity string, m registry.StoreMemory, actor registry.Actor) (was string, err error)
}

// Blocker controls all other use of the store.
type Blocker interface {
	// Block refuses all use with a reason, Unblock ends that.
	Block(reason error)
	Unblock()
	// Bypass returns a context whose calls are allowed while use is blocked.
	Bypass(ctx context.Context) context.Context
}

// Options of a Watch.
type Options struct {
	Store   Store
	Blocker Blocker
	// Claim does what a start does before it uses the store: it checks that the store belongs to this service, and adds the first
	// admin token. It may be repeated.
	Claim func(ctx context.Context) error
	// Process is the unique name of this process.
	Process string
	Metrics *Metrics
	Log     *slog.Logger
}

// Watch checks the store. New, Begin, then Run once; all other methods are safe for concurrent use.
type Watch struct {
	opts Options
	// status is the result of the last check; looks counts the checks that began.
	status atomic.Pointer[status]
	looks  atomic.Uint64
	// turn is held during a check, and guards memory and seen.
	turn   chan struct{}
	memory registry.StoreMemory
	// seen is the number of the last check that succeeded.
	seen uint64
}

// New returns a Watch that has not checked yet.
func New(opts Options) *Watch {
	w := &Watch{opts: opts, turn: make(chan struct{}, 1), memory: registry.StoreMemory{Process: opts.Process}}
	w.status.Store(&status{})
	return w
}

// Begin accepts the store that it finds.
func (w *Watch) Begin(ctx context.Context) error { return w.Confirm(ctx) }

// Run checks the store every second until ctx ends.
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
		case !errors.Is(err, ErrChanged): // readiness and the metrics of Redis report it
			w.opts.Log.DebugContext(ctx, "the store could not be checked", "err", err)
		default:
			if changed++; changed == claimAfter && !w.claimStore(ctx) {
				changed--
			}
		}
	}
}

// claimStore adds the first admin token to a changed store, so that an operator can accept the store.
func (w *Watch) claimStore(ctx context.Context) bool {
	ctx, cancel := context.WithTimeoutCause(w.AllowChangedStore(ctx), lookWithin, errSlow)
	defer cancel()
	if err := w.opts.Claim(ctx); err != nil {
		w.opts.Log.WarnContext(ctx, "the first admin token could not be added to the changed store", "err", err)
		return false
	}
	return true
}

// ChangedMessage returns why the store may not be used, for operators; it is empty while the store may be used.
func (w *Watch) ChangedMessage() string { return w.status.Load().changed.operatorMessage() }

// WentBack reports that the store lost acknowledged writes, and has not been accepted since.
func (w *Watch) WentBack() bool { return w.status.Load().wentBack }

// AllowChangedStore returns a context for calls that may use a changed store.
func (w *Watch) AllowChangedStore(ctx context.Context) context.Context {
	return w.opts.Blocker.Bypass(ctx)
}

// Confirm returns nil if the store is the one with which the process began. It uses a check that began after the call; concurrent
// callers share one. Errors: ErrChanged; any other error decides nothing.
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

// Accept makes this and all other processes accept the present store. Errors: those of Options.Claim.
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
	// an error of this check loses nothing: the next check accepts the store
	return Accepted{Identity: identity, Found: found}, w.checkStore(ctx)
}

// Accepted is a store that was accepted.
type Accepted struct {
	// Identity is the store's new identity.
	Identity string
	// Found is how this process found the store: in_order, went_back, gone or other.
	Found string
}

func (w *Watch) acquireTurn(ctx context.Context) (release func(), err error) {
	select {
	case w.turn <- struct{}{}:
		return func() { <-w.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to check the store: %w", context.Cause(ctx))
	}
}

// checkStore checks the store once. The caller holds the turn.
func (w *Watch) checkStore(ctx context.Context) error {
	n := w.looks.Add(1)
	past, cancel := context.WithTimeoutCause(w.AllowChangedStore(ctx), lookWithin, errSlow)
	defer cancel()
	found, err := w.opts.Store.CheckStore(past, w.memory)
	if err != nil {
		return err // this decides nothing
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

// logTransition logs a status that differs from the last one.
func (w *Watch) logTransition(ctx context.Context, was, now status, found registry.StoreCheck) {
	switch {
	case now.changed != was.changed && now.changed != inOrder:
		w.opts.Log.ErrorContext(ctx, "the store changed and is not used until it is accepted or restored", "detail", now.changed.operatorMessage())
	case was.changed != inOrder && now.changed == inOrder:
		w.opts.Log.WarnContext(ctx, "the store is used again", "accepted", found.Match == registry.StoreTaken)
	}
	if found.Lower {
		w.opts.Log.WarnContext(ctx, "the store went back: it lost writes that it had acknowledged; a fast comparison was requested")
	}
}
