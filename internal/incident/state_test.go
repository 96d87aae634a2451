package incident_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
)

func TestStateRoundTrip(t *testing.T) {
	t.Parallel()
	s, _, _ := play(t, machine(), []at{
		{0, blocked}, {time.Minute, ok}, {2 * time.Minute, tick}, {3 * time.Minute, blocked}, {4 * time.Minute, rejects("T1")},
	})
	s.Mailed = map[string]incident.MailedTransitions{"k": {First: 1, Last: 2}}
	got, err := incident.DecodeState(s.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestHealthyStateIsNothing(t *testing.T) {
	t.Parallel()
	s := machine().Next(incident.State{}, ok, start).State
	if got := s.Encode(); got != "" {
		t.Errorf("a healthy endpoint is stored as %s", got)
	}
	// What is kept for a while after an incident goes away by itself.
	s, _, _ = play(t, machine(), []at{{0, blocked}, {time.Minute, ok}, {2 * time.Minute, tick}})
	if s.Encode() == "" {
		t.Error("the ended incident was forgotten at once")
	}
	s = machine().Next(s, tick, start.Add(3*time.Hour)).State
	if got := s.Encode(); got != "" {
		t.Errorf("hours later still stored: %s", got)
	}
	if got, err := incident.DecodeState(""); err != nil || got.Phase() != incident.Healthy {
		t.Errorf("nothing stored reads as %+v, %v", got, err)
	}
}

func TestUnreadableStateIsAnError(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"x", `{"v":2}`, `{"v":0}`, `{"v":1,"last":{"reason":"tea_spilled"}}`} {
		if _, err := incident.DecodeState(text); !errors.Is(err, incident.ErrUnreadable) {
			t.Errorf("Decode(%s) = %v, want ErrUnreadable", text, err)
		}
	}
	if _, err := incident.DecodeMail(`{"v":9}`); !errors.Is(err, incident.ErrUnreadable) {
		t.Errorf("letter of another format: %v, want ErrUnreadable", err)
	}
}

func TestReasonsAreStoredByName(t *testing.T) {
	t.Parallel()
	s := machine().Next(incident.State{}, refused, start).State
	if got := s.Encode(); !strings.Contains(got, `"reason":"refused"`) {
		t.Errorf("stored as %s", got)
	}
}

func TestLetterRoundTrip(t *testing.T) {
	t.Parallel()
	_, _, all := play(t, machine(), []at{{0, blocked}})
	l := all[0].Mails[0]
	l.Recipient = incident.Recipient{
		To: "kim@example.com", ClientID: "app1", AppName: "Awesome \u202eApp", Environment: partner.Online,
		URL: "https://p.example/", TimeZone: "Europe/Oslo",
	}
	l.First, l.After = 1, 2
	got, err := incident.DecodeMail(l.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	key := incident.RecipientKey("Kim@Example.com")
	if want := l.Incident + ".1." + key; l.ID() != want || l.AfterID() != l.Incident+".2."+key {
		t.Errorf("ids %s after %s, want %s", l.ID(), l.AfterID(), want)
	}
	if l.After = 0; l.AfterID() != "" {
		t.Errorf("the first letter waits for %s", l.AfterID())
	}
}

// TestStoredFormOfAMail: outboxes and mail queues hold mails of other versions, so the form stays, byte for byte.
func TestStoredFormOfAMail(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 10, 15, 0, 0, time.UTC)
	m := incident.Mail{
		Recipient: incident.Recipient{
			To: "kim@example.com", ClientID: "app1", AppName: "Awesome App", Environment: partner.Online, URL: "https://p.example/", TimeZone: "Europe/Oslo",
		},
		First: 1, After: 2, Kind: incident.KindReminder, Incident: incident.NewID("app1", partner.ERPSync, at), Endpoint: partner.ERPSync, N: 3,
		At: at.Add(time.Hour), Since: at, Failure: &incident.PublicFailure{Reason: delivery.ReasonServerError, Status: 503, At: at.Add(time.Minute)},
		Backlog: incident.Backlog{Notifications: 2, Tenants: 1},
	}
	const stored = `{"v":1,"to":"kim@example.com","client_id":"app1","app_name":"Awesome App","environment":"online","url":"https://p.example/",` +
		`"time_zone":"Europe/Oslo","first":1,"after":2,"mail":{"kind":"reminder","incident":"inc_app1_emwujg880","endpoint":"erp_sync","n":3,` +
		`"at":"2026-11-24T11:15:00Z","since":"2026-11-24T10:15:00Z","failure":{"reason":"server_error","status":503,"at":"2026-11-24T10:16:00Z"},` +
		`"backlog":{"notifications":2,"tenants":1}}}`
	if got := m.Encode(); got != stored {
		t.Errorf("stored as\n%s\nwant\n%s", got, stored)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for _, k := range partner.AllEndpointKinds() {
		id := incident.NewID("a_b-c.1", k, start)
		app, kind, since, err := incident.ParseID(id)
		if err != nil || app != "a_b-c.1" || kind != k || !since.Equal(start) {
			t.Errorf("%s reads as %s %s %v, %v", id, app, kind, since, err)
		}
	}
	for _, bad := range []string{
		"", "inc_", "inc_app1", "inc_app1_", "inc_app1_s", "inc_app1_x1", "inc_app1_s-1", "inc_app1_s01", "inc_app1_sZ", "inc__s1",
		"inc_a{b_s1", "chg_app1_s1", "inc_app1_szzzzzzzzzzzzzzzz",
	} {
		if _, _, _, err := incident.ParseID(bad); !errors.Is(err, incident.ErrInvalidID) {
			t.Errorf("ParseID(%q) = %v, want ErrInvalidID", bad, err)
		}
	}
}

func TestFromResult(t *testing.T) {
	t.Parallel()
	failure := func(r delivery.Reason, status int) incident.Event { return incident.Failure{Reason: r, Status: status} }
	for _, tt := range []struct {
		r    delivery.Result
		want incident.Event
	}{
		{delivery.ClassifyStatus(http.StatusOK), incident.Success{Tenant: "T1"}},
		{delivery.ClassifyStatus(http.StatusUnprocessableEntity), incident.Rejection{Tenant: "T1", Reason: delivery.ReasonClientError, Status: 422}},
		{delivery.ClassifyStatus(http.StatusNotFound), failure(delivery.ReasonClientError, 404)},
		{delivery.ClassifyStatus(http.StatusTooManyRequests), failure(delivery.ReasonRateLimited, 429)},
		{delivery.ClassifyStatus(http.StatusGone), failure(delivery.ReasonGone, 410)},
		{delivery.ClassifyStatus(http.StatusBadGateway), failure(delivery.ReasonServerError, 502)},
		{
			delivery.Result{Outcome: delivery.Blocked, Reason: delivery.ReasonBlockedAddress, Fault: delivery.FaultEndpoint},
			incident.Failure{Reason: delivery.ReasonBlockedAddress, Immediate: true},
		},
		{delivery.Result{Outcome: delivery.Aborted, Reason: delivery.ReasonOwnFault, Fault: delivery.FaultOwn}, nil},
	} {
		got, ok := incident.EventFromResult(tt.r, "T1")
		if ok != (tt.want != nil) {
			t.Errorf("%+v: says something %v, want %v", tt.r, ok, tt.want != nil)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.r, diff)
		}
	}
}

func TestSwitchOf(t *testing.T) {
	t.Parallel()
	e := partner.Endpoint{URL: "https://p.example/", Enabled: false, OffReason: partner.OffGone, SwitchedAt: start}
	if got, want := incident.ReadSwitch(e, partner.Online), (incident.Switch{Reason: partner.OffGone, At: start}); got != want {
		t.Errorf("switched off by the service reads as %+v, want %+v", got, want)
	}
	e = partner.Endpoint{Enabled: true, URLs: map[partner.Environment]string{partner.Stage: "https://p.example/"}}
	if got := incident.ReadSwitch(e, partner.Online); got.On || got.Reason != "" {
		t.Errorf("an endpoint without a URL reads as %+v", got)
	}
	if got := incident.ReadSwitch(e, partner.Stage); !got.On {
		t.Errorf("an endpoint with an override reads as %+v", got)
	}
}
