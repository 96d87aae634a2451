package alerting

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// others is a mailbox with so many approvals, and what waits for whom.
type others struct {
	approvals int64
	waits     []tenant.ID
	told      []tenant.ID
	err       error
}

func (o *others) View(context.Context, partner.ClientID) (mailbox.View, error) {
	return mailbox.View{Approvals: o.approvals, Diverged: int64(len(o.waits))}, o.err
}

func (o *others) Approvals(context.Context, partner.ClientID, string, int) ([]tenant.ID, string, error) {
	return []tenant.ID{"a", "b", "c"}[:min(o.approvals, 3)], "", o.err
}

func (o *others) ReadPairs(_ context.Context, _ partner.ClientID, ts []tenant.ID) ([]mailbox.PairState, error) {
	var out []mailbox.PairState
	for _, t := range ts {
		st := mailbox.PairState{Tenant: t, Approved: true, Known: 7}
		if slices.Contains(o.waits, t) {
			st.Entries[tenant.SlotStatus] = &delivery.Entry{}
		}
		out = append(out, st)
	}
	return out, o.err
}

func (o *others) Resync(_ context.Context, _ partner.ClientID, ts []tenant.ID) (int, error) {
	o.told = append(o.told, ts...)
	return len(ts), o.err
}

// Before an endpoint is switched off on one tenant's evidence, another one is told; then it is.
func TestEvidenceOfAnotherTenant(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o    others
		is   bool
		told []tenant.ID
	}{
		"OneOfThree":     {others{approvals: 3, waits: []tenant.ID{"a"}}, false, []tenant.ID{"b"}},
		"NobodyWaits":    {others{approvals: 3}, false, []tenant.ID{"a"}},
		"TwoOfThree":     {others{approvals: 3, waits: []tenant.ID{"a", "b"}}, true, nil},
		"TheOnlyOne":     {others{approvals: 1, waits: []tenant.ID{"a"}}, true, nil},
		"NobodyApproved": {others{}, true, nil},
		"TheStoreIsAway": {others{approvals: 3, err: errors.New("away")}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := secondOpinion{boxes: &c.o, approvals: &c.o, asked: map[string]bool{}}
			is, err := s.severalTenantsPending(t.Context(), "app1")
			if is != c.is || !slices.Equal(c.o.told, c.told) || (err != nil) != (c.o.err != nil) {
				t.Errorf("evidence %v, %v, told %v", is, err, c.o.told)
			}
		})
	}
}

// In an incident of one tenant whose posts fail another one is asked once; nobody is where the endpoint refuses, or fails as a whole.
func TestAnotherTenantIsAskedOnce(t *testing.T) {
	t.Parallel()
	one := func(status int) *incident.State {
		return &incident.State{
			ID: "app1.state_change.1", Rejected: map[tenant.ID]incident.RefusedNotification{"a": {}}, LastRejection: &incident.Failure{Status: status},
		}
	}
	two := one(500)
	two.Rejected["b"] = incident.RefusedNotification{}
	failing, closed := one(500), one(500)
	failing.FailingSince, closed.ID = time.Now(), ""
	for name, c := range map[string]struct {
		s  *incident.State
		is bool
	}{
		"Fails": {one(500), true}, "NoAnswer": {one(0), true}, "Refuses": {one(422), false}, "TwoTenants": {two, false}, "FailsAsAWhole": {failing, false},
		"NoIncident": {closed, false},
	} {
		if failsForOne(c.s) != c.is {
			t.Errorf("%s: %v", name, !c.is)
		}
	}
	o := &others{approvals: 3, waits: []tenant.ID{"a"}, err: errors.New("away")}
	s := secondOpinion{boxes: o, approvals: o, asked: map[string]bool{}}
	if err := s.resyncAnotherOnce(t.Context(), "app1", one(500)); err == nil {
		t.Error("no error of a store that is away")
	}
	o.err = nil
	for range 3 {
		if err := s.resyncAnotherOnce(t.Context(), "app1", one(500)); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(o.told, []tenant.ID{"b"}) {
		t.Errorf("told %v", o.told)
	}
}
