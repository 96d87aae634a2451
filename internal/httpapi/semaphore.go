package httpapi

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// boundedSemaphore bounds how many do something at once. Who comes when it is full waits for a moment, unless
// many wait already: a burst then costs a little time, and a storm is turned away before it piles up.
type boundedSemaphore struct {
	// inside holds one element for each who is in. Its waiters get in by the order in which they came.
	inside  chan struct{}
	waiting atomic.Int64
	most    int64
	within  time.Duration
}

var (
	errTooManyWaiting = errors.New("too many wait at the gate")
	errWaitTooLong    = errors.New("the wait at the gate was too long")
)

// newBoundedSemaphore lets n in at once, and most others wait, each within a time.
func newBoundedSemaphore(n, most int, within time.Duration) *boundedSemaphore {
	return &boundedSemaphore{inside: make(chan struct{}, n), most: int64(most), within: within}
}

// acquire returns when the caller is in, which must leave then, or why it is not: errTooManyWaiting, errWaitTooLong
// or the context's error.
func (g *boundedSemaphore) acquire(ctx context.Context) error {
	select {
	case g.inside <- struct{}{}:
		return nil
	default:
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > g.most {
		return errTooManyWaiting
	}
	late := time.NewTimer(g.within)
	defer late.Stop()
	select {
	case g.inside <- struct{}{}:
		return nil
	case <-late.C:
		return errWaitTooLong
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *boundedSemaphore) release() { <-g.inside }

// keyedSemaphores are gates by owner, each there while somebody is in it or waits.
type keyedSemaphores struct {
	// open makes an owner's gate; factor multiplies how many may be in it.
	open func(factor int) *boundedSemaphore

	mu sync.Mutex
	of map[string]*sharedSemaphore
}

type sharedSemaphore struct {
	*boundedSemaphore
	users int
}

func newKeyedSemaphores(open func(factor int) *boundedSemaphore) *keyedSemaphores {
	return &keyedSemaphores{open: open, of: map[string]*sharedSemaphore{}}
}

// acquire is gate.enter at the owner's gate. Who is in must call leave. Another factor holds once nobody is in the gate.
func (g *keyedSemaphores) acquire(ctx context.Context, owner string, factor int) (leave func(), err error) {
	g.mu.Lock()
	own := g.of[owner]
	if own == nil {
		own = &sharedSemaphore{boundedSemaphore: g.open(factor)}
		g.of[owner] = own
	}
	own.users++
	g.mu.Unlock()
	if err := own.acquire(ctx); err != nil {
		g.removeUser(owner, own)
		return nil, err
	}
	return func() {
		own.release()
		g.removeUser(owner, own)
	}, nil
}

func (g *keyedSemaphores) removeUser(owner string, own *sharedSemaphore) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(g.of, owner)
	}
}

// concurrencyLimiter bounds how many of something each owner and all together have at once; nobody waits.
type concurrencyLimiter struct {
	each, all int

	mu  sync.Mutex
	n   int
	own map[string]int
}

func newConcurrencyLimiter(each, all int) *concurrencyLimiter {
	return &concurrencyLimiter{each: each, all: all, own: map[string]int{}}
}

// tryAcquire returns false when the owner, or all, have as many as they may. Who got one must give it back.
func (s *concurrencyLimiter) tryAcquire(owner string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own[owner] >= s.each || s.n >= s.all {
		return false
	}
	s.own[owner]++
	s.n++
	return true
}

func (s *concurrencyLimiter) release(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n--
	if s.own[owner]--; s.own[owner] <= 0 {
		delete(s.own, owner)
	}
}
