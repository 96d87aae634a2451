package httpapi

import (
	"context"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/ratelimit"
)

const (
	factorsKept = 10_000
	// factorFor is how long a process uses a factor before it reads it again.
	factorFor = 10 * time.Second
)

// budgetFactors caches the budget factors of apps, so that few requests of a partner's token read the app.
type budgetFactors struct {
	apps Apps

	mu    sync.Mutex
	known ratelimit.Map[knownFactor]
}

type knownFactor struct {
	factor int
	until  time.Time
}

func newBudgetFactors(apps Apps) *budgetFactors {
	return &budgetFactors{apps: apps, known: ratelimit.Map[knownFactor]{Size: factorsKept}}
}

// roleFactor is the factor of a role's app, and 1 for a role without one. While one request reads the app, the others
// use the factor that was read before. So do all when the app cannot be read.
func (f *budgetFactors) roleFactor(ctx context.Context, role Role, now time.Time) int {
	if role.Kind != Partner {
		return 1
	}
	known, fresh := f.cachedFactor(role.App, now)
	if fresh {
		return known
	}
	rec, err := f.apps.App(ctx, role.App)
	if err != nil {
		return known
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known.Put(string(role.App), knownFactor{rec.App.EffectiveBudgetFactor(), now.Add(factorFor)})
	return rec.App.EffectiveBudgetFactor()
}

// cachedFactor returns the cached factor of an app. When it is not fresh, the caller must read the app.
func (f *budgetFactors) cachedFactor(app partner.ClientID, now time.Time) (factor int, fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known, _ := f.known.Get(string(app))
	if now.Before(known.until) {
		return known.factor, true
	}
	known = knownFactor{max(known.factor, 1), now.Add(factorFor)}
	f.known.Put(string(app), known)
	return known.factor, false
}
