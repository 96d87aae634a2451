package httpapi_test

import (
	"context"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// fakeOutcomes keeps outcomes in memory, without an end.
type fakeOutcomes struct {
	mu   sync.Mutex
	kept map[string]*keptOutcome
	// full makes the caller have too many keys, err fails all calls, settleErr the second.
	full           bool
	err, settleErr error
	// beforeSettle runs before a run ends.
	beforeSettle func()
}

type keptOutcome struct {
	digest  string
	outcome []byte
}

func (f *fakeOutcomes) BeginOnce(_ context.Context, o registry.Once) (registry.Begun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := o.Caller + "\n" + o.Key
	k := f.kept[name]
	switch {
	case f.err != nil:
		return registry.Begun{}, f.err
	case f.full:
		return registry.Begun{State: registry.OnceFull, Wait: time.Hour}, nil
	case k == nil:
		f.kept[name] = &keptOutcome{digest: o.Digest}
		return registry.Begun{State: registry.OnceRun, Run: "run"}, nil
	case k.digest != o.Digest:
		return registry.Begun{}, registry.ErrKeyReused
	case k.outcome == nil:
		return registry.Begun{State: registry.OnceBusy, Wait: 30 * time.Second}, nil
	default:
		return registry.Begun{State: registry.OnceDone, Outcome: k.outcome}, nil
	}
}

func (f *fakeOutcomes) SettleOnce(ctx context.Context, o registry.Once, _ string, outcome []byte) (bool, error) {
	if f.beforeSettle != nil {
		f.beforeSettle()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil || f.settleErr != nil {
		return false, f.settleErr
	}
	name := o.Caller + "\n" + o.Key
	if len(outcome) == 0 {
		delete(f.kept, name)
	} else {
		f.kept[name].outcome = outcome
	}
	return true, nil
}
