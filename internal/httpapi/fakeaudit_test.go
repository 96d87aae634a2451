package httpapi_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func (w *world) AppendAudit(_ context.Context, entries ...registry.AuditEntry) error {
	defer w.lock()()
	w.audited = append(w.audited, entries...)
	return errors.Join(w.down, w.auditErr)
}

func (w *world) Reencrypt(context.Context, registry.Actor) (examined, resealed int, err error) {
	defer w.lock()()
	return 3, 2, w.down
}

func (w *world) AuditEntries(_ context.Context, q registry.AuditQuery) ([]registry.AuditEntry, string, error) {
	e := registry.AuditEntry{ID: "5-0", At: start, Actor: "Kim", Role: "admin", Action: "app.put", Subject: "app1", After: `{"name":"A"}`}
	if q.Subject == "endless" {
		return slices.Repeat([]registry.AuditEntry{e}, 500), "6-0", w.down
	}
	if q.Subject != "" && q.Subject != e.Subject {
		return nil, "", nil
	}
	if q.After == "5-0" {
		return nil, "", w.down
	}
	return []registry.AuditEntry{e}, "5-0", w.down
}

func (w *world) Explain(_ context.Context, app partner.ClientID, t tenant.ID) (intake.Explanation, error) {
	defer w.lock()()
	if w.down != nil {
		return intake.Explanation{}, w.down
	}
	return intake.Explanation{
		ClientID: app, Tenant: t, Cause: intake.CircuitOpen, Known: true, Status: tenant.Status{State: tenant.Suspended},
		Newest:   &tenant.Change{ID: "chg_Cust1_5", Type: tenant.Suspend, Sequence: 5, AcceptedAt: start},
		Approved: t != "Stranger", Breaker: "open", CooldownUntil: start.Add(time.Minute), NextAttemptAt: start.Add(time.Minute), HasURL: true,
		Waiting: []intake.WaitingChange{{
			ChangeID: "chg_Cust1_5", Type: tenant.Suspend, Sequence: 5, Since: start, Attempts: 2, Reason: delivery.ReasonServerError, LastAttempt: start,
		}},
		Attempts: []delivery.Attempt{{At: start, ClientID: app, Tenant: t, ChangeType: "suspend", Outcome: "retryable", Reason: "server_error", Status: 500, Excerpt: "oops"}},
		Endpoint: partner.Endpoint{Enabled: true}, Ahead: 3, Now: start,
	}, nil
}
