package httpapi

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// boundedSemaphore bounds how many callers have it at once. When it is full, a caller waits for a short time, unless too
// many wait already. So a burst is delayed a little, and overload is refused before a long queue builds up.
type boundedSemaphore struct {
	// inside holds one element for each caller that has the semaphore. Waiters get it in the order in which they came.
	inside  chan struct{}
	waiting atomic.Int64
	most    int64
	within  time.Duration
}

var (
	errTooManyWaiting = errors.New("too many wait for the semaphore")
	errWaitTooLong    = errors.New("the wait for the semaphore was too long")
)

// newBoundedSemaphore makes a semaphore that n callers can have at once, and for which most others can wait, each for at most
// within.
func newBoundedSemaphore(n, most int, within time.Duration) *boundedSemaphore {
	return &boundedSemaphore{inside: make(chan struct{}, n), most: int64(most), within: within}
}

// acquire returns nil when the caller has the semaphore; it must call release later. Otherwise the error is
// errTooManyWaiting, errWaitTooLong or the context's.
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

// keyedSemaphores are semaphores by owner. One exists while a caller has it or waits for it.
type keyedSemaphores struct {
	// open makes an owner's semaphore; factor multiplies how many callers can have it.
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

// acquire acquires the owner's semaphore. After success the caller must call leave. A changed factor takes effect once no
// caller has or waits for the semaphore.
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

// concurrencyLimiter bounds how many of something each owner, and all owners together, have at once. It never waits.
type concurrencyLimiter struct {
	each, all int

	mu  sync.Mutex
	n   int
	own map[string]int
}

func newConcurrencyLimiter(each, all int) *concurrencyLimiter {
	return &concurrencyLimiter{each: each, all: all, own: map[string]int{}}
}

// tryAcquire returns false when the owner, or all owners together, are at the limit. After success the caller must release it.
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
