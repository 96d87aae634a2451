package apply

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/lamplighter/lamplighter/internal/client"
)

// API is the admin API; *client.Client is one. It repeats requests that may be repeated.
type API interface {
	Do(ctx context.Context, r client.Request) (client.Answer, error)
	ForEachItem(ctx context.Context, path string, query url.Values, limit int, f func(item json.RawMessage) error) error
	SendLines(ctx context.Context, r client.Request, lines iter.Seq[[]byte], answered func(client.LineAnswer) error) error
}

// Secrets keeps the webhook secrets of created apps, which the service shows once.
type Secrets interface {
	// RecordIntent is called before the request that makes a secret. It reports whether there is an earlier intent
	// without a saved secret.
	RecordIntent(id string) (owed bool, err error)
	// SaveSecret is called with the secret of the answer.
	SaveSecret(id, secret string) error
	// DropIntent removes an intent.
	DropIntent(id string) error
	// OpenIntents lists the apps with an intent but without a saved secret.
	OpenIntents() []string
}

const (
	// fewApps is up to how many apps are read one by one instead of all in pages.
	fewApps = 100
	// maxOvertaken limits how often a change starts over because another client changed the app.
	maxOvertaken = 10
	// maxFaults ends a run in which everything fails.
	maxFaults = 100
)

// Counts are the progress of a run. They may be read while it runs.
type Counts struct {
	// Steps are the apps and tenants read, or written once Writing is true; the totals are what
	// the phase has to do.
	Steps, StepsTotal         atomic.Int64
	Approvals, ApprovalsTotal atomic.Int64
	Writing                   atomic.Bool
}

// Runner reads the service's state and carries out plans.
type Runner struct {
	API API
	// Concurrency is how many requests are in flight at once; 0 means one.
	Concurrency int
	// Secrets is needed for plans that create apps.
	Secrets Secrets
	// Force switches endpoints on although their probe fails.
	Force  bool
	Counts Counts

	mu     sync.Mutex
	done   Summary
	faults []Fault
}

// Fault is a step that failed.
type Fault struct {
	// What is such as "app my-app".
	What string
	Err  error
}

// Error names the step.
func (f Fault) Error() string { return f.What + ": " + f.Err.Error() }

// Unwrap returns the cause.
func (f Fault) Unwrap() error { return f.Err }

// Faults are all steps that failed.
type Faults []Fault

// Error lists the first ones.
func (f Faults) Error() string {
	text := FormatCount(len(f), "step") + " failed:"
	for i, fault := range f {
		if i == maxProblems {
			return text + "\n  and " + FormatThousands(len(f)-i) + " more"
		}
		text += "\n  " + fault.Error()
	}
	return text
}

// Unwrap returns the causes.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i := range f {
		errs[i] = f[i]
	}
	return errs
}

// endsRun reports whether all other steps would fail as well.
func endsRun(err error) bool {
	if _, ok := errors.AsType[*client.NoAnswer](err); ok {
		return true
	}
	switch client.RefusalStatus(err) {
	case http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	return errors.Is(err, client.ErrUnexpectedAnswer)
}

// forEachIndex runs f for the indexes below n, Concurrency at a time, until one fails, and returns the first error.
func (r *Runner) forEachIndex(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(max(r.Concurrency, 1), n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				if err := f(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// recordFault records a step that failed; an error that it returns ends the run.
func (r *Runner) recordFault(ctx context.Context, what string, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.faults = append(r.faults, Fault{what, err})
	r.done.Failed++
	if endsRun(err) || len(r.faults) >= maxFaults {
		return r.faultsError()
	}
	return nil
}

func (r *Runner) faultsError() error {
	if len(r.faults) == 0 {
		return nil
	}
	return Faults(r.faults)
}

// forceQuery is the query for writing apps.
func (r *Runner) forceQuery() url.Values {
	if r.Force {
		return url.Values{"force": {"true"}}
	}
	return nil
}

func (r *Runner) updateSummary(f func(s *Summary)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.done)
}

// Summary counts what was done so far.
func (r *Runner) Summary() Summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done
}

// Run carries out a plan: first tenants, so that new approvals deposit the right status, then apps with their
// approvals, then removals. A failed step does not stop the others; the error has all of them, as Faults. Another run
// does the rest.
func (r *Runner) Run(ctx context.Context, p *Plan) error {
	r.Counts.Writing.Store(true)
	r.Counts.Steps.Store(0)
	r.Counts.StepsTotal.Store(int64(len(p.Tenants) + len(p.Apps)))
	sum := p.Summarize(0)
	r.Counts.ApprovalsTotal.Store(int64(sum.Added + sum.Dropped))
	err := r.forEachIndex(ctx, len(p.Tenants), func(ctx context.Context, i int) error {
		defer r.Counts.Steps.Add(1)
		return r.setTenant(ctx, &p.Tenants[i])
	})
	if err != nil {
		return err
	}
	if err := r.replaceLostSecrets(ctx); err != nil {
		return err
	}
	for _, removals := range []bool{false, true} {
		err := r.forEachIndex(ctx, len(p.Apps), func(ctx context.Context, i int) error {
			s := &p.Apps[i]
			if (s.Action == Remove) != removals {
				return nil
			}
			defer r.Counts.Steps.Add(1)
			if removals {
				return r.removeApp(ctx, s.ID)
			}
			return r.applyApp(ctx, s)
		})
		if err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.faultsError()
}

func (r *Runner) setTenant(ctx context.Context, s *TenantStep) error {
	body, err := json.Marshal(s.said)
	if err != nil {
		return err
	}
	_, err = r.API.Do(ctx, client.Request{Method: http.MethodPut, Path: client.JoinPath("v1", "tenants", s.ID, "status"), Body: body})
	if err != nil {
		return r.recordFault(ctx, "tenant "+s.ID, err)
	}
	r.updateSummary(func(d *Summary) { d.Tenants++ })
	return nil
}

func (r *Runner) removeApp(ctx context.Context, id string) error {
	_, err := r.API.Do(ctx, client.Request{Method: http.MethodDelete, Path: client.JoinPath("v1", "apps", id)})
	if err != nil && client.RefusalStatus(err) != http.StatusNotFound {
		return r.recordFault(ctx, "app "+id, err)
	}
	r.updateSummary(func(d *Summary) { d.Removed++ })
	return nil
}
