package httpapi

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// gate bounds how many do something at once. Who comes when it is full waits for a moment, unless
// many wait already: a burst then costs a little time, and a storm is turned away before it piles up.
type gate struct {
	// inside holds one element for each who is in. Its waiters get in by the order in which they came.
	inside  chan struct{}
	waiting atomic.Int64
	most    int64
	within  time.Duration
}

var (
	errCrowd = errors.New("too many wait at the gate")
	errLate  = errors.New("the wait at the gate was too long")
)

// newGate lets n in at once, and most others wait, each within a time.
func newGate(n, most int, within time.Duration) *gate {
	return &gate{inside: make(chan struct{}, n), most: int64(most), within: within}
}

// enter returns when the caller is in, which must leave then, or why it is not: errCrowd, errLate
// or the context's error.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.inside <- struct{}{}:
		return nil
	default:
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > g.most {
		return errCrowd
	}
	late := time.NewTimer(g.within)
	defer late.Stop()
	select {
	case g.inside <- struct{}{}:
		return nil
	case <-late.C:
		return errLate
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) leave() { <-g.inside }

// gates are gates by owner, each there while somebody is in it or waits.
type gates struct {
	// open makes an owner's gate; factor multiplies how many may be in it.
	open func(factor int) *gate

	mu sync.Mutex
	of map[string]*ownGate
}

type ownGate struct {
	*gate
	users int
}

func newGates(open func(factor int) *gate) *gates {
	return &gates{open: open, of: map[string]*ownGate{}}
}

// enter is gate.enter at the owner's gate. Who is in must call leave. Another factor holds once nobody is in the gate.
func (g *gates) enter(ctx context.Context, owner string, factor int) (leave func(), err error) {
	g.mu.Lock()
	own := g.of[owner]
	if own == nil {
		own = &ownGate{gate: g.open(factor)}
		g.of[owner] = own
	}
	own.users++
	g.mu.Unlock()
	if err := own.enter(ctx); err != nil {
		g.done(owner, own)
		return nil, err
	}
	return func() {
		own.leave()
		g.done(owner, own)
	}, nil
}

func (g *gates) done(owner string, own *ownGate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(g.of, owner)
	}
}

// shares bounds how many of something each owner and all together have at once; nobody waits.
type shares struct {
	each, all int

	mu  sync.Mutex
	n   int
	own map[string]int
}

func newShares(each, all int) *shares { return &shares{each: each, all: all, own: map[string]int{}} }

// take returns false when the owner, or all, have as many as they may. Who got one must give it back.
func (s *shares) take(owner string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own[owner] >= s.each || s.n >= s.all {
		return false
	}
	s.own[owner]++
	s.n++
	return true
}

func (s *shares) give(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n--
	if s.own[owner]--; s.own[owner] <= 0 {
		delete(s.own, owner)
	}
}
