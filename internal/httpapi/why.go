package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/told"
)

// StatusExplainer says why a tenant's change has not arrived at an app.
type StatusExplainer interface {
	// Explain returns registry.ErrNotFound when there is no such app.
	Explain(ctx context.Context, app partner.ClientID, t tenant.ID) (intake.Explanation, error)
}

// explanationAnswer is an explanation: Words is text, the other members are for programs.
type explanationAnswer struct {
	ClientID      partner.ClientID  `json:"client_id"`
	Tenant        tenant.ID         `json:"tenant"`
	Text          string            `json:"words" doc:"The whole answer as text."`
	Cause         intake.Cause      `json:"cause"`
	InStep        bool              `json:"in_step"`
	Approved      bool              `json:"approved"`
	State         tenant.State      `json:"state"`
	Newest        *changeAnswer     `json:"newest_change,omitempty"`
	FanOutOwed    bool              `json:"fan_out_owed"`
	Waiting       []waitingAnswer   `json:"waiting"`
	InFlight      bool              `json:"in_flight"`
	NextAttemptAt time.Time         `json:"next_attempt_at,omitzero"`
	Endpoint      explainedEndpoint `json:"endpoint"`
	Deliveries    []deliveryAnswer  `json:"deliveries"`
}

type changeAnswer struct {
	ID         string            `json:"id"`
	ChangeType tenant.ChangeType `json:"change_type"`
	Sequence   int64             `json:"sequence"`
	AcceptedAt time.Time         `json:"accepted_at,omitzero"`
}

type waitingAnswer struct {
	ID         string            `json:"id"`
	ChangeType tenant.ChangeType `json:"change_type"`
	Sequence   int64             `json:"sequence"`
	Since      time.Time         `json:"waiting_since"`
	Superseded int64             `json:"superseded"`
	Attempts   int               `json:"attempts"`
	told.FailureInfo
	LastAt time.Time `json:"last_attempt_at,omitzero"`
	Again  bool      `json:"told_again"`
}

type explainedEndpoint struct {
	Enabled    bool                     `json:"enabled"`
	HasURL     bool                     `json:"has_url"`
	OffReason  partner.OffReason        `json:"off_reason,omitempty"`
	SwitchedAt time.Time                `json:"switched_at,omitzero"`
	Paused     bool                     `json:"paused"`
	Breaker    string                   `json:"breaker" api:"ref=Breaker"`
	RetryAt    time.Time                `json:"retry_at,omitzero"`
	Openings   int                      `json:"openings"`
	Waiting    int64                    `json:"waiting"`
	Health     *apitypes.EndpointHealth `json:"health"`
}

func (a *API) getExplanation(c *call) error {
	t, err := c.pathTenantID()
	if err != nil {
		return err
	}
	rec, err := a.readPathApp(c)
	if err != nil {
		return err
	}
	w, err := a.Explainer.Explain(c.ctx(), rec.App.ClientID, t)
	if errors.Is(err, registry.ErrNotFound) {
		return notFoundProblem("app")
	}
	if err != nil {
		return err
	}
	if c.role.Kind == Partner && !w.Approved { // a partner may read only about tenants that approved its app
		if wait, ok := a.strangers.TakeMany(c.token, 1, c.factor, a.Now()); !ok {
			return tooManyRequestsProblem(budgetStrangers, "This token asked about too many tenants that did not approve the app.", wait)
		}
		w.Newest = nil
	}
	answer := c.newExplanationAnswer(w)
	if answer.Endpoint.Health, err = a.readEndpointHealth(c, &rec.App, partner.StateChange); err != nil {
		return err
	}
	return c.writeJSON(http.StatusOK, answer)
}

func (c *call) newExplanationAnswer(w intake.Explanation) explanationAnswer {
	answer := explanationAnswer{
		ClientID: w.ClientID, Tenant: w.Tenant, Text: w.Description(c.readerAudience()), Cause: w.Cause, InStep: w.Cause == intake.InStep, Approved: w.Approved,
		State: w.Status.State, FanOutOwed: w.FanOutPending, Waiting: []waitingAnswer{}, InFlight: w.InFlight, NextAttemptAt: w.NextAttemptAt.UTC(),
		Endpoint: explainedEndpoint{
			Enabled: w.Endpoint.Enabled, HasURL: w.HasURL, OffReason: w.Endpoint.OffReason, SwitchedAt: w.Endpoint.SwitchedAt, Paused: w.Paused,
			Breaker: w.Breaker, RetryAt: w.CooldownUntil.UTC(), Openings: w.Openings, Waiting: w.Ahead,
		},
		Deliveries: c.newDeliveryAnswers(w.Attempts),
	}
	if n := w.Newest; n != nil {
		answer.Newest = &changeAnswer{n.ID, n.Type, n.Sequence, n.AcceptedAt.UTC()}
	}
	for _, e := range w.Waiting {
		one := waitingAnswer{
			ID: e.ChangeID, ChangeType: e.Type, Sequence: e.Sequence, Since: e.Since, Superseded: e.Superseded, Attempts: e.Attempts,
			LastAt: e.LastAttempt.UTC(), Again: e.Again,
		}
		if e.Attempts > 0 {
			one.FailureInfo = c.explainCause(e.Reason.Cause(), partner.StateChange)
		}
		answer.Waiting = append(answer.Waiting, one)
	}
	return answer
}
