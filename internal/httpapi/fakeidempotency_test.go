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

func (f *fakeOutcomes) ClaimIdempotencyKey(_ context.Context, o registry.IdempotencyRecord) (registry.IdempotencyClaim, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := o.Caller + "\n" + o.Key
	k := f.kept[name]
	switch {
	case f.err != nil:
		return registry.IdempotencyClaim{}, f.err
	case f.full:
		return registry.IdempotencyClaim{State: registry.IdempotencyFull, Wait: time.Hour}, nil
	case k == nil:
		f.kept[name] = &keptOutcome{digest: o.Digest}
		return registry.IdempotencyClaim{State: registry.IdempotencyRun, Run: "run"}, nil
	case k.digest != o.Digest:
		return registry.IdempotencyClaim{}, registry.ErrKeyReused
	case k.outcome == nil:
		return registry.IdempotencyClaim{State: registry.IdempotencyBusy, Wait: 30 * time.Second}, nil
	default:
		return registry.IdempotencyClaim{State: registry.IdempotencyDone, Answer: k.outcome}, nil
	}
}

func (f *fakeOutcomes) SettleIdempotencyKey(ctx context.Context, o registry.IdempotencyRecord, _ string, outcome []byte) (bool, error) {
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
