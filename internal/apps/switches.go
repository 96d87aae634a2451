package apps

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/told"
)

// Prober tries an integration endpoint with settings that may not be stored yet. It records nothing.
type Prober interface {
	TestSettings(ctx context.Context, app partner.App, kind partner.EndpointKind) (health.TestResult, error)
}

// writeCheck checks the endpoints of one write. It checks each once, however often the write starts over after a
// conflict.
//
// An integration endpoint that is switched on needs a URL, an address that may be called, its licence, and a successful
// probe. One that stays on needs a successful probe at a new URL. A probe that could not be made, because of the
// service's own fault or because no tenant approves the app yet, does not block the write.
//
// With Write.Force the write is made even if the probe failed. The audit keeps the probe's result.
//
// A state-change endpoint needs only the address: notifications are kept until it answers, so it may be switched on before
// its receiver runs. Switching off is never blocked.
type writeCheck struct {
	writer *Writer
	write  *Write
	// probed holds the results of probes, by endpoint and URL; hosts those of look-ups, by host and port.
	probed map[string]health.TestResult
	hosts  map[string]resolvedHost
}

// switchesOn reports whether a write switches an endpoint on.
func switchesOn(old *registry.AppRecord, app *partner.App, k partner.EndpointKind) bool {
	return app.Endpoints[k].Enabled && (old == nil || !old.App.Endpoints[k].Enabled)
}

// needsProbe reports whether, after a write, engines call an endpoint at a URL at which they did not call it before.
func (c *writeCheck) needsProbe(old *registry.AppRecord, app *partner.App, k partner.EndpointKind) bool {
	o := &c.writer.opts
	to := app.Endpoints[k].EffectiveURL(o.Environment)
	if to == "" || !app.Endpoints[k].Enabled || o.Licences.Missing(app, k) != "" {
		return false
	}
	return switchesOn(old, app, k) || old.App.Endpoints[k].EffectiveURL(o.Environment) != to
}

func enabledPointer(k partner.EndpointKind) string { return "/endpoints/" + k.String() + "/enabled" }

// checkSwitches refuses endpoints that may not be switched on, without calling them.
func (c *writeCheck) checkSwitches(old *registry.AppRecord, app *partner.App) error {
	var faults partner.ValidationError
	var missing []partner.FieldError
	for _, k := range partner.IntegrationKinds() {
		if !switchesOn(old, app, k) {
			continue
		}
		if !app.Endpoints[k].HasURL() {
			faults = append(faults, partner.FieldError{Pointer: enabledPointer(k), Detail: "cannot be true without a URL"})
		}
		if need := c.writer.opts.Licences.Missing(app, k); need != "" {
			missing = append(missing, partner.FieldError{Pointer: enabledPointer(k), Detail: "needs the licence " + string(need) + ", which the app was not granted"})
		}
	}
	switch {
	case len(faults) > 0:
		return faults
	case len(missing) > 0:
		return &LicenceError{Fields: missing}
	}
	return nil
}

// probeEndpoints probes the integration endpoints that are switched on or get a new URL, all at once. One without a URL in
// this environment is not probed: it is on for other environments.
func (c *writeCheck) probeEndpoints(ctx context.Context, old *registry.AppRecord, app *partner.App) error {
	if c.writer.opts.Prober == nil {
		return nil
	}
	var work sync.WaitGroup
	var results [partner.EndpointKinds]health.TestResult
	var errs [partner.EndpointKinds]error
	var asked [partner.EndpointKinds]bool
	for _, k := range partner.IntegrationKinds() {
		if !c.needsProbe(old, app, k) {
			continue
		}
		asked[k] = true
		if found, ok := c.probed[c.probeKey(app, k)]; ok {
			results[k] = found
			continue
		}
		work.Go(func() { results[k], errs[k] = c.probeEndpoint(ctx, app, k) })
	}
	work.Wait()
	var failed []ProbeFailure
	for _, k := range partner.IntegrationKinds() {
		if errs[k] != nil {
			return errs[k]
		}
		if !asked[k] {
			continue
		}
		c.probed[c.probeKey(app, k)] = results[k]
		if results[k].State == health.StatusFailing {
			failed = append(failed, ProbeFailure{Pointer: c.memberAtFault(old, app, k), Endpoint: k, Result: results[k]})
		}
	}
	if len(failed) > 0 && !c.write.Force {
		return &ProbeError{Failures: failed}
	}
	return nil
}

// memberAtFault is the pointer to the member that a failed probe is about.
func (c *writeCheck) memberAtFault(old *registry.AppRecord, app *partner.App, k partner.EndpointKind) string {
	at := "/endpoints/" + k.String()
	env := c.writer.opts.Environment
	switch {
	case switchesOn(old, app, k):
		return enabledPointer(k)
	case app.Endpoints[k].URLs[env] != "":
		return at + "/urls/" + string(env)
	default:
		return at + "/url"
	}
}

func (c *writeCheck) probeKey(app *partner.App, k partner.EndpointKind) string {
	return k.String() + " " + app.Endpoints[k].EffectiveURL(c.writer.opts.Environment)
}

// digestName is a name of fixed length for a long one.
func digestName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return string(sum[:])
}

// provenFor is how long an endpoint that answered a probe is taken as healthy where another probe would be one too many.
// provenMost is how many of them are remembered.
const (
	provenFor  = time.Minute
	provenMost = 20_000
)

// probeEndpoint probes one endpoint. It counts as a test, so that switching an endpoint on and off does not bypass the
// limit of tests. Beyond the limit an endpoint that was healthy a moment ago, at the same URL, is taken as healthy.
func (c *writeCheck) probeEndpoint(ctx context.Context, app *partner.App, k partner.EndpointKind) (health.TestResult, error) {
	w := c.writer
	proven := digestName(string(app.ClientID) + " " + c.probeKey(app, k)) // a URL may be long
	if err := w.CountTest(app, k); err != nil {
		if w.proven.Has(proven, w.opts.Now()) {
			return health.TestResult{State: health.StatusHealthy, Cause: told.FindCause("none")}, nil
		}
		if !c.write.Force {
			return health.TestResult{}, err
		}
		return health.TestResult{State: health.StatusUnchecked, Cause: told.FindCause("not_tried")}, nil
	}
	result, err := w.opts.Prober.TestSettings(ctx, *app, k)
	if err == nil && result.State == health.StatusHealthy {
		w.proven.Add(proven, w.opts.Now())
	} else {
		w.proven.Remove(proven)
	}
	return result, err
}

// CountTest counts a test of an endpoint. Its error is a *BudgetError.
func (w *Writer) CountTest(app *partner.App, k partner.EndpointKind) error {
	if wait, ok := w.tests.TakeMany(string(app.ClientID)+"/"+k.String(), 1, app.EffectiveBudgetFactor(), w.opts.Now()); !ok {
		return &BudgetError{Budget: EndpointTests, Wait: wait}
	}
	return nil
}
