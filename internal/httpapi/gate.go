package httpapi

import (
	"context"
	"errors"
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
