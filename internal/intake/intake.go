package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Registry records changes.
type Registry interface {
	Accept(ctx context.Context, reqs []registry.ChangeRequest) ([]registry.AcceptResult, error)
}

// Notifier starts the fan-out of tenants.
type Notifier interface {
	Notify(ctx context.Context, id string, ts []tenant.ID) error
}

// Intake accepts changes. It is safe for concurrent use.
type Intake struct {
	registry Registry
	notifier Notifier
	metrics  *Metrics
	log      *slog.Logger
}

// New returns an Intake.
func New(r Registry, n Notifier, m *Metrics, log *slog.Logger) *Intake {
	return &Intake{registry: r, notifier: n, metrics: m, log: log}
}

// Accept records changes in order and starts their fan-out. Results and their errors have the index of their request.
// While the result of a change is unknown, no later change of its tenant is accepted. An error of the whole call
// means that no result is known; the caller repeats it with the same idempotency keys.
func (in *Intake) Accept(ctx context.Context, reqs []registry.ChangeRequest) ([]registry.AcceptResult, error) {
	results, err := in.registry.Accept(ctx, reqs)
	if err != nil {
		for _, r := range reqs {
			in.metrics.countChange(r.Type, resultError)
		}
		return nil, fmt.Errorf("accept %d changes: %w", len(reqs), err)
	}
	seen := make(map[tenant.ID]struct{}, len(reqs))
	ts := make([]tenant.ID, 0, len(reqs))
	for i, r := range results {
		switch {
		case errors.Is(r.Err, registry.ErrOutOfOrder):
			in.metrics.countChange(reqs[i].Type, resultOutOfOrder)
			continue
		case r.Err != nil:
			in.metrics.countChange(reqs[i].Type, resultError)
			continue
		case r.Accepted.Replayed:
			in.metrics.countChange(reqs[i].Type, resultReplayed)
		default:
			in.metrics.countChange(reqs[i].Type, resultAccepted)
		}
		if _, dup := seen[r.Accepted.Tenant]; !dup {
			seen[r.Accepted.Tenant] = struct{}{}
			ts = append(ts, r.Accepted.Tenant)
		}
	}
	if len(ts) > 0 {
		in.startFanout(ctx, ts)
	}
	return results, nil
}

// notifyWithin bounds the start of a fan-out.
const notifyWithin = 2 * time.Second

// startFanout starts the fan-out of accepted changes, also after the caller has gone.
func (in *Intake) startFanout(ctx context.Context, ts []tenant.ID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyWithin)
	defer cancel()
	if err := in.notifier.Notify(ctx, uuid.NewString(), ts); err != nil {
		in.log.WarnContext(ctx, "fan-out not started; a loop will", "tenants", len(ts), "err", err)
	}
}
