package httpapi

import (
	"context"
	"runtime"

	"golang.org/x/sync/semaphore"
)

const (
	// smallBody is the size up to which a body does not wait for large ones: the platform's changes have far less.
	smallBody = 16 << 10
	// smallBodiesAtOnce bounds the bytes of small bodies that are parsed at once.
	smallBodiesAtOnce = 1 << 20
	// heavyAtOnce is the most work that takes a core for milliseconds which is done at once. Large bodies have
	// 1 MiB at most, so 2 MiB of them are parsed at once.
	heavyAtOnce = 2
)

// parseLimits bounds the bodies that a process parses at once: memory grows with their bytes, and each large one
// takes a core for milliseconds. Large bodies leave half of the cores to others.
type parseLimits struct {
	small, large *semaphore.Weighted
}

func newParseLimits() *parseLimits {
	return &parseLimits{small: semaphore.NewWeighted(smallBodiesAtOnce), large: newHeavyLimit()}
}

// newHeavyLimit bounds work that takes a core for milliseconds to half of the cores.
func newHeavyLimit() *semaphore.Weighted {
	return semaphore.NewWeighted(int64(min(max(runtime.GOMAXPROCS(0)/2, 1), heavyAtOnce)))
}

// acquire waits until a body of n bytes may be parsed. The caller must release it.
func (p *parseLimits) acquire(ctx context.Context, n int64) (release func(), err error) {
	limit := p.small
	if n > smallBody {
		limit, n = p.large, 1
	}
	if err := limit.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { limit.Release(n) }, nil
}
