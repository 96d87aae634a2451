package registry_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/registry/registrytest"
)

var incidentKeys = keys.New("")

const incidentApp partner.ClientID = "app1"

func machine() incident.Machine {
	return incident.Machine{
		Settings: incident.DefaultSettings(), ClientID: incidentApp, Endpoint: partner.StateChange, Switch: incident.Switch{On: true},
	}
}

// deciding makes a decision of one event, with a letter to each recipient.
func deciding(e incident.Event, now time.Time, to ...string) func(incident.State) incident.Decision {
	return func(s incident.State) incident.Decision {
		d := machine().Next(s, e, now)
		step := incident.Decision{State: d.State, Ended: d.Ended}
		for _, m := range d.Mails {
			for _, a := range to {
				l := m
				l.Recipient = incident.Recipient{To: a, ClientID: incidentApp, AppName: "An app"}
				if m.N > 1 {
					l.First, l.After = 1, m.N-1
				}
				step.Mails = append(step.Mails, l)
			}
		}
		return step
	}
}

var (
	blocked = incident.Failure{Reason: delivery.ReasonBlockedAddress, Immediate: true}
	began   = time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
)

const toKim, toLee = "kim@example.com", "lee@example.com"

func eachIncidents(t *testing.T, f func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient)) {
	t.Helper()
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f(t, registry.NewIncidentStore(rdb, incidentKeys, time.Hour), rdb)
	})
}

func TestTransitionWritesStateAndLettersAtOnce(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		step := must[incident.Decision](t)(registrytest.Decide(ctx, s, incidentApp, partner.StateChange, deciding(blocked, began, toKim, toLee)))
		if len(step.Mails) != 2 {
			t.Fatalf("%d letters, want 2", len(step.Mails))
		}
		states := must[map[partner.EndpointKind]incident.State](t)(s.Incidents(ctx, incidentApp))
		if diff := cmp.Diff(map[partner.EndpointKind]incident.State{partner.StateChange: step.State}, states); diff != "" {
			t.Errorf("stored state (-want +got):\n%s", diff)
		}
		entries := must[[]registry.OutboxEntry](t)(s.ListOutbox(ctx, incidentApp))
		if len(entries) != 2 {
			t.Fatalf("%d entries, want 2", len(entries))
		}
		for _, e := range entries {
			if e.State != registry.MailWaiting || e.Attempts != 0 || e.Mail == nil || e.ID != e.Mail.ID() {
				t.Errorf("entry %+v", e)
			}
		}
		// The same event again owes nothing.
		again := must[incident.Decision](t)(registrytest.Decide(ctx, s, incidentApp, partner.StateChange, deciding(blocked, began, toKim)))
		if len(again.Mails) != 0 {
			t.Errorf("told again: %v", again.Mails)
		}
	})
}

func TestTransitionWithoutChangeWritesNothing(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		ctx := t.Context()
		must[incident.Decision](t)(registrytest.Decide(ctx, s, incidentApp, partner.StateChange, deciding(incident.Success{}, began)))
		if n := rdb.DBSize(ctx).Val(); n != 0 {
			t.Errorf("a healthy endpoint left %d keys", n)
		}
	})
}

func TestTransitionDecidesAnewAfterAConflict(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		calls := 0
		step, err := registrytest.Decide(ctx, s, incidentApp, partner.StateChange, func(st incident.State) incident.Decision {
			if calls++; calls == 1 { // somebody else is faster
				must[incident.Decision](t)(registrytest.Decide(ctx, s, incidentApp, partner.StateChange, deciding(blocked, began, toKim)))
			}
			return deciding(blocked, began.Add(time.Minute), toLee)(st)
		})
		if err != nil || calls != 2 || len(step.Mails) != 0 {
			t.Errorf("decided %d times, letters %v, %v; want twice and none", calls, step.Mails, err)
		}
		if n := len(must[[]registry.OutboxEntry](t)(s.ListOutbox(ctx, incidentApp))); n != 1 {
			t.Errorf("%d mails for one transition", n)
		}
	})
}

func TestADecisionOnAnOldStateWritesNothing(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		ctx := t.Context()
		key := incidentKeys.App(incidentApp, keys.AppIncidents)
		was := must[registry.StoredIncident](t)(s.ReadIncident(ctx, incidentApp, partner.StateChange))
		meanwhile := `{"v":1,"failures":1}`
		rdb.HSet(ctx, key, partner.StateChange.String(), meanwhile)
		d := deciding(blocked, began, toKim)(was.State)
		if must[bool](t)(s.CommitIfUnchanged(ctx, incidentApp, partner.StateChange, was, d)) {
			t.Error("a decision on an old state was committed")
		}
		if n := rdb.HLen(ctx, incidentKeys.App(incidentApp, keys.AppOutbox)).Val(); n != 0 || rdb.HGet(ctx, key, partner.StateChange.String()).Val() != meanwhile {
			t.Errorf("%d mails of a decision that was not committed", n)
		}
	})
}

func TestConcurrentObserversOweOneMail(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				_, err := registrytest.Decide(ctx, s, incidentApp, partner.StateChange, deciding(blocked, began.Add(time.Duration(i)*time.Second), toKim))
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(must[[]registry.OutboxEntry](t)(s.ListOutbox(ctx, incidentApp))); n != 1 {
			t.Errorf("%d mails for one transition", n)
		}
	})
}

func TestEndedIncidentsGoToTheHistory(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		ctx := t.Context()
		now := time.Now()
		for i := range 3 { // the first ends before what the history keeps
			from := now.Add(time.Duration(i-2) * 90 * time.Minute)
			for _, e := range []struct {
				d time.Duration
				e incident.Event
			}{{0, blocked}, {time.Second, incident.Success{}}, {time.Minute + time.Second, incident.Tick{}}} {
				must[incident.Decision](t)(registrytest.Decide(ctx, s, incidentApp, partner.StateChange, deciding(e.e, from.Add(e.d), toKim)))
			}
		}
		list := must[[]incident.EndedIncident](t)(s.History(ctx, incidentApp, 10))
		if len(list) != 1 || list[0].Ending != incident.EndRecovered || list[0].Transitions != 2 || list[0].Format != 1 {
			t.Fatalf("history %+v, want the last incident alone", list)
		}
		if ttl := rdb.PTTL(ctx, incidentKeys.App(incidentApp, keys.AppHistory)).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("the history expires in %v, want within an hour", ttl)
		}
	})
}

func TestUnreadableIncidentIsLeftAlone(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		ctx := t.Context()
		key := incidentKeys.App(incidentApp, keys.AppIncidents)
		rdb.HSet(ctx, key, "state_change", `{"v":7}`)
		_, err := registrytest.Decide(ctx, s, incidentApp, partner.StateChange, deciding(blocked, began, toKim))
		if !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("Transition: %v, want ErrUnreadable", err)
		}
		if _, err := s.Incidents(ctx, incidentApp); !errors.Is(err, registry.ErrUnreadable) {
			t.Errorf("Incidents: %v, want ErrUnreadable", err)
		}
		if got := rdb.HGet(ctx, key, "state_change").Val(); got != `{"v":7}` {
			t.Errorf("overwritten by %s", got)
		}
	})
}

func subscription(app partner.ClientID, address string) registry.Subscription {
	return registry.Subscription{App: app, Recipient: incident.RecipientKey(address)}
}

func TestSuppressed(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		ctx := t.Context()
		if err := s.SetMailSuppressed(ctx, subscription(incidentApp, "Kim@Example.com"), true); err != nil {
			t.Fatal(err)
		}
		got := must[[]bool](t)(s.MailsSuppressed(ctx, []registry.Subscription{subscription(incidentApp, toKim), subscription(incidentApp, toLee)}))
		if diff := cmp.Diff([]bool{true, false}, got); diff != "" {
			t.Errorf("suppressed (-want +got):\n%s", diff)
		}
		if got := must[[]bool](t)(s.MailsSuppressed(ctx, []registry.Subscription{subscription("app2", toKim)})); got[0] {
			t.Error("suppressed for another app")
		}
		if err := s.SetMailSuppressed(ctx, subscription(incidentApp, toKim), false); err != nil {
			t.Fatal(err)
		}
		if got := must[[]bool](t)(s.MailsSuppressed(ctx, []registry.Subscription{subscription(incidentApp, toKim)})); got[0] {
			t.Error("still suppressed")
		}
		if got := must[[]bool](t)(s.MailsSuppressed(ctx, nil)); len(got) != 0 {
			t.Errorf("nobody asked for, %v answered", got)
		}
	})
}

func TestIncidentStoreNamesWhatFailed(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	s := registry.NewIncidentStore(rdb, incidentKeys, 0)
	_ = rdb.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := registrytest.Decide(ctx, s, incidentApp, partner.ERPSync, deciding(blocked, began, toKim))
	if err == nil || !strings.Contains(err.Error(), "app1 erp_sync") {
		t.Errorf("error %v does not name the endpoint", err)
	}
}

// One call for each app tells all that a sweep must look after.
func TestTroubledTellsAllThatMustBeLookedAfter(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, rdb redis.UniversalClient) {
		ctx := t.Context()
		apps := []partner.ClientID{"well", incidentApp, "foreign"}
		step := must[incident.Decision](t)(registrytest.Decide(ctx, s, incidentApp, partner.StateChange, deciding(blocked, began, toKim)))
		rdb.HSet(ctx, incidentKeys.App("foreign", keys.AppIncidents), partner.StateChange.String(), "{not json")
		found, errs := s.ReadOpenIncidents(ctx, apps)
		noErr(t, "read troubles", errors.Join(errs...))
		want := &registry.OpenIncidents{Mails: true, Incidents: map[partner.EndpointKind]incident.State{partner.StateChange: step.State}}
		if diff := cmp.Diff(want, found[1]); diff != "" || found[0] != nil {
			t.Errorf("%v of an app that is well; of the other (-want +got):\n%s", found[0], diff)
		}
		if found[2] == nil || !errors.Is(found[2].Unreadable, registry.ErrUnreadable) {
			t.Errorf("what cannot be read: %+v", found[2])
		}
		rdb.Del(ctx, incidentKeys.App("foreign", keys.AppIncidents))
		rdb.Set(ctx, incidentKeys.App("foreign", keys.AppIncidents), "no hash", 0)
		found, errs = s.ReadOpenIncidents(ctx, apps)
		if found[1] == nil || errs[1] != nil {
			t.Errorf("the app before one that cannot be read: %+v, %v", found[1], errs[1])
		}
		if errs[2] == nil && found[2].Unreadable == nil { // miniredis calls it something else
			t.Errorf("a key of another type: %+v", found[2])
		}
	})
}
