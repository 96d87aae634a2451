package httpapi

import (
	"encoding/json"
	"time"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/told"
)

// detailForOperators returns a text for operators and admins, and nil for other callers.
func (c *call) detailForOperators(detail string) *apitypes.OperatorDetail {
	if c.role.Kind != Operator && c.role.Kind != Admin {
		return nil
	}
	return &apitypes.OperatorDetail{Detail: detail}
}

// excerptForOperators returns a part of an unknown server's answer for operators and admins, and nothing for other callers.
func (c *call) excerptForOperators(excerpt string) string {
	if c.detailForOperators("") == nil {
		return ""
	}
	return excerpt
}

// explainCause describes a cause. A partner gets the same text for a name that does not exist and one that leads inside.
func (c *call) explainCause(cause told.Cause, k partner.EndpointKind) told.FailureInfo {
	if c.role.Kind == Partner {
		return cause.PublicReason().InfoFor(k)
	}
	return cause.InfoFor(k)
}

// readerAudience is the audience of an explanation.
func (c *call) readerAudience() intake.Audience { return intake.Audience(c.role.Kind == Partner) }

// deliveryAnswer is an attempt as the caller may see it.
type deliveryAnswer struct {
	At               time.Time        `json:"at"`
	ClientID         partner.ClientID `json:"client_id"`
	Tenant           tenant.ID        `json:"tenant"`
	ChangeID         string           `json:"change_id"`
	WebhookID        string           `json:"webhook_id"`
	ChangeType       string           `json:"change_type"`
	Sequence         int64            `json:"sequence"`
	Number           int              `json:"attempt"`
	Superseded       int64            `json:"superseded,omitempty"`
	Result           string           `json:"outcome" api:"ref=DeliveryOutcome"`
	told.FailureInfo `always:"reason,words"`
	Status           int   `json:"status,omitempty"`
	DurationMS       int64 `json:"duration_ms"`
	*apitypes.OperatorDetail
	Excerpt       string    `json:"excerpt,omitempty" doc:"A part of the answer, redacted; for operators and admins only."`
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
}

func (c *call) newDeliveryAnswers(attempts []delivery.Attempt) []deliveryAnswer {
	out := make([]deliveryAnswer, len(attempts))
	for i, a := range attempts {
		out[i] = deliveryAnswer{
			At: a.At, ClientID: a.ClientID, Tenant: a.Tenant, ChangeID: a.ChangeID, WebhookID: a.WebhookID, ChangeType: a.ChangeType,
			Sequence: a.Sequence, Number: a.Number, Superseded: a.Superseded, Result: c.visibleResult(a.Outcome),
			FailureInfo: c.explainCause(told.FindCause(a.Reason), partner.StateChange), Status: a.Status, DurationMS: a.DurationMS,
			OperatorDetail: c.detailForOperators(a.Detail), Excerpt: c.excerptForOperators(a.Excerpt), NextAttemptAt: a.NextAttemptAt,
		}
	}
	return out
}

// visibleResult is the result of an attempt as the caller may see it. A partner must not see that the guard refused an
// address, since that would show that the name exists.
func (c *call) visibleResult(o string) string {
	if c.role.Kind == Partner && o == delivery.Blocked.String() {
		return delivery.Retryable.String()
	}
	return o
}

// maskedAuditAnswer is an audit entry as the caller may see it: a partner does not see the text of a probe.
func (c *call) maskedAuditAnswer(e registry.AuditEntry) auditAnswer {
	if c.role.Kind == Partner && (e.Action == apps.ActionSwitchedOn || e.Action == apps.ActionMoved) {
		var n apps.SwitchNote
		if err := json.Unmarshal([]byte(e.After), &n); err != nil {
			e.After = ""
		} else if n.Probe != nil {
			n.Probe.Reason, n.Probe.Detail = told.FindCause(n.Probe.Reason).PublicReason().String(), ""
			e.After = n.Encode()
		}
	}
	return newAuditAnswer(e)
}
