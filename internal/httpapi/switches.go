package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/told"
)

// switchChecker checks the endpoints that a write switches on. It checks each once for a request, however often the write
// starts over after a conflict.
//
// An integration endpoint that is switched on needs a URL, an address that may be called, its licence, and a successful
// probe. One that stays on needs a successful probe at a new URL. A probe that could not be made, because of the service's
// own fault or because no tenant approves the app yet, does not block the write.
//
// With force=true the write is made even if the probe failed. The audit keeps the probe's result.
//
// A state-change endpoint needs only the address: notifications are kept until it answers, so it may be switched on before
// its receiver runs. Switching off is never blocked.
type switchChecker struct {
	api   *API
	call  *call
	force bool
	// probed holds the results of probes, by endpoint and URL; resolvedHosts those of look-ups, by host and port.
	probed        map[string]health.TestResult
	resolvedHosts map[string]resolvedHost
}

// newSwitchChecker makes the checker of a request, with its parameter force.
func (a *API) newSwitchChecker(c *call) (*switchChecker, error) {
	s := &switchChecker{api: a, call: c, probed: map[string]health.TestResult{}, resolvedHosts: map[string]resolvedHost{}}
	switch values := c.r.URL.Query()["force"]; {
	case len(values) == 0:
	case len(values) == 1 && (values[0] == "true" || values[0] == "false"):
		s.force = values[0] == "true"
	default:
		return nil, invalidProblem(FieldError{Pointer: "/force", Detail: "must be true or false"})
	}
	return s, nil
}

// switchesOn reports whether a write switches an endpoint on.
func switchesOn(old *registry.AppRecord, app *partner.App, k partner.EndpointKind) bool {
	return app.Endpoints[k].Enabled && (old == nil || !old.App.Endpoints[k].Enabled)
}

// needsProbe reports whether, after a write, engines call an endpoint at a URL at which they did not call it before.
func (s *switchChecker) needsProbe(old *registry.AppRecord, app *partner.App, k partner.EndpointKind) bool {
	to := app.Endpoints[k].EffectiveURL(s.api.Environment)
	if to == "" || !app.Endpoints[k].Enabled || s.api.Licences.Missing(app, k) != "" {
		return false
	}
	return switchesOn(old, app, k) || old.App.Endpoints[k].EffectiveURL(s.api.Environment) != to
}

func enabledPointer(k partner.EndpointKind) string { return "/endpoints/" + k.String() + "/enabled" }

// checkSwitches refuses endpoints that may not be switched on, without calling them.
func (s *switchChecker) checkSwitches(old *registry.AppRecord, app *partner.App) error {
	var faults, missing []FieldError
	for _, k := range partner.IntegrationKinds() {
		if !switchesOn(old, app, k) {
			continue
		}
		if !app.Endpoints[k].HasURL() {
			faults = append(faults, FieldError{Pointer: enabledPointer(k), Detail: "cannot be true without a URL"})
		}
		if need := s.api.Licences.Missing(app, k); need != "" {
			missing = append(missing, FieldError{Pointer: enabledPointer(k), Detail: "needs the licence " + string(need) + ", which the app was not granted"})
		}
	}
	switch {
	case len(faults) > 0:
		return invalidProblem(faults...)
	case len(missing) > 0:
		return licenceMissingProblem(missing)
	}
	return nil
}

// probeEndpoints probes the integration endpoints that are switched on or get a new URL, all at once. One without a URL in
// this environment is not probed: it is on for other environments.
func (s *switchChecker) probeEndpoints(ctx context.Context, old *registry.AppRecord, app *partner.App) error {
	if s.api.Tester == nil {
		return nil
	}
	var work sync.WaitGroup
	var results [partner.EndpointKinds]health.TestResult
	var errs [partner.EndpointKinds]error
	var asked [partner.EndpointKinds]bool
	for _, k := range partner.IntegrationKinds() {
		if !s.needsProbe(old, app, k) {
			continue
		}
		asked[k] = true
		if found, ok := s.probed[s.probeKey(app, k)]; ok {
			results[k] = found
			continue
		}
		work.Go(func() { results[k], errs[k] = s.probeEndpoint(ctx, app, k) })
	}
	work.Wait()
	var failed []FieldError
	for _, k := range partner.IntegrationKinds() {
		if errs[k] != nil {
			return errs[k]
		}
		if !asked[k] {
			continue
		}
		s.probed[s.probeKey(app, k)] = results[k]
		if results[k].State == health.StatusFailing {
			failed = append(failed, FieldError{Pointer: s.memberAtFault(old, app, k), Detail: s.describeFinding(k, results[k])})
		}
	}
	if len(failed) > 0 && !s.force {
		return probeFailedProblem(failed)
	}
	return nil
}

// describeFinding describes a probe's result to the caller.
func (s *switchChecker) describeFinding(k partner.EndpointKind, r health.TestResult) string {
	said := s.call.explainCause(r.Cause, k)
	if more := s.call.detailForOperators(r.Detail); more != nil && more.Detail != "" {
		return more.Detail
	}
	return strings.TrimSpace(said.Description.String() + ". " + said.Advice.String())
}

// memberAtFault is the pointer to the member that a failed probe is about.
func (s *switchChecker) memberAtFault(old *registry.AppRecord, app *partner.App, k partner.EndpointKind) string {
	at := "/endpoints/" + k.String()
	switch {
	case switchesOn(old, app, k):
		return enabledPointer(k)
	case app.Endpoints[k].URLs[s.api.Environment] != "":
		return at + "/urls/" + string(s.api.Environment)
	default:
		return at + "/url"
	}
}

func (s *switchChecker) probeKey(app *partner.App, k partner.EndpointKind) string {
	return k.String() + " " + app.Endpoints[k].EffectiveURL(s.api.Environment)
}

// digestName is a name of fixed length for a long one.
func digestName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return string(sum[:])
}

// provenFor is how long an endpoint that answered a probe is taken as healthy where another probe would be one too many.
const provenFor = time.Minute

// probeEndpoint probes one endpoint. It counts as a test, so that switching an endpoint on and off does not bypass the
// limit of tests. Beyond the limit an endpoint that was healthy a moment ago, at the same URL, is taken as healthy.
func (s *switchChecker) probeEndpoint(ctx context.Context, app *partner.App, k partner.EndpointKind) (health.TestResult, error) {
	proven := digestName(string(app.ClientID) + " " + s.probeKey(app, k)) // a URL may be long
	if wait, ok := s.api.tests.TakeMany(string(app.ClientID)+"/"+k.String(), 1, app.EffectiveBudgetFactor(), s.api.Now()); !ok {
		if s.api.proven.Has(proven, s.api.Now()) {
			return health.TestResult{State: health.StatusHealthy, Cause: told.FindCause("none")}, nil
		}
		if !s.force {
			return health.TestResult{}, tooManyRequestsProblem(budgetTests, "This endpoint was tried several times just now.", wait)
		}
		return health.TestResult{State: health.StatusUnchecked, Cause: told.FindCause("not_tried")}, nil
	}
	result, err := s.api.Tester.TestSettings(ctx, *app, k)
	if err == nil && result.State == health.StatusHealthy {
		s.api.proven.Add(proven, s.api.Now())
	} else {
		s.api.proven.Remove(proven)
	}
	return result, err
}

// switchNote is a switch in the audit.
type switchNote struct {
	Endpoint  string            `json:"endpoint"`
	Enabled   bool              `json:"enabled"`
	OffReason partner.OffReason `json:"off_reason,omitempty"`
	// Forced is true when it was switched on although the probe failed.
	Forced bool       `json:"forced,omitempty"`
	Probe  *probeNote `json:"probe,omitempty"`
}

func (n switchNote) encode() string {
	b, err := json.Marshal(n)
	if err != nil { // strings, numbers and booleans always marshal
		panic("httpapi: marshal a switch: " + err.Error())
	}
	return string(b)
}

// probeNote is a probe's result in the audit. Only operators and admins see its text.
type probeNote struct {
	State      health.Status `json:"outcome"`
	Reason     string        `json:"reason"`
	Status     int           `json:"status,omitempty"`
	Detail     string        `json:"detail,omitempty"`
	DurationMS int64         `json:"duration_ms"`
}

// The audit's actions for a switch that a write moved.
const (
	ActionSwitchedOn  = "endpoint.switched_on"
	ActionSwitchedOff = "endpoint.switched_off"
	// ActionMoved: it stays on, at another URL that was probed.
	ActionMoved = "endpoint.moved"
)

// SwitchNotes are the audit's notes about the switches that a write moved.
func SwitchNotes(old, app *partner.App) []registry.AuditNote {
	return buildSwitchNotes(old, app, func(partner.EndpointKind) (*probeNote, bool) { return nil, false })
}

func buildSwitchNotes(old, app *partner.App, probed func(partner.EndpointKind) (note *probeNote, forced bool)) []registry.AuditNote {
	var notes []registry.AuditNote
	for _, k := range partner.AllEndpointKinds() {
		var was partner.Endpoint
		if old != nil {
			was = old.Endpoints[k]
		}
		is := app.Endpoints[k]
		probe, forced := probed(k)
		if was.Enabled == is.Enabled && (probe == nil || !is.Enabled) {
			continue
		}
		before := switchNote{Endpoint: k.String(), Enabled: was.Enabled, OffReason: was.OffReason}
		after := switchNote{Endpoint: k.String(), Enabled: is.Enabled, OffReason: is.OffReason}
		note := registry.AuditNote{Action: ActionSwitchedOff}
		switch {
		case was.Enabled && is.Enabled:
			note.Action = ActionMoved
		case is.Enabled:
			note.Action = ActionSwitchedOn
		}
		if is.Enabled {
			after.Probe, after.Forced = probe, forced
		}
		note.Before, note.After = before.encode(), after.encode()
		notes = append(notes, note)
	}
	return notes
}

// auditNotes are the audit's notes about the switches that the write moves, with the results of probes.
func (s *switchChecker) auditNotes(old *registry.AppRecord, app *partner.App) []registry.AuditNote {
	var before *partner.App
	if old != nil {
		before = &old.App
	}
	return buildSwitchNotes(before, app, func(k partner.EndpointKind) (*probeNote, bool) {
		found, ok := s.probed[s.probeKey(app, k)]
		if !ok || k == partner.StateChange {
			return nil, false
		}
		return &probeNote{
			State: found.State, Reason: found.Cause.String(), Status: found.Status, Detail: found.Detail,
			DurationMS: found.Duration.Milliseconds(),
		}, s.force && found.State != health.StatusHealthy
	})
}

func licenceMissingProblem(errs []FieldError) *Problem {
	p := newProblem(http.StatusConflict, "licence-missing", "A licence is missing",
		"An admin must grant the licences named in errors first; nothing was changed.")
	p.Errors = errs
	return p
}

func probeFailedProblem(errs []FieldError) *Problem {
	p := newProblem(http.StatusConflict, "probe-failed", "The endpoint did not pass its probe",
		"Correct what errors says, or write it all the same with ?force=true; nothing was changed.")
	p.Errors = errs
	return p
}

// switchedOffBy says whether the service or a caller switched an endpoint off.
func switchedOffBy(e partner.Endpoint) string {
	switch {
	case e.Enabled:
		return ""
	case e.OffReason != "":
		return "service"
	case e.SwitchedAt.IsZero():
		return ""
	default:
		return "people"
	}
}
