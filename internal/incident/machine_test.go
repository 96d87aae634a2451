package incident_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var start = time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)

const ms = time.Millisecond

// at is an event some time after the start.
type at struct {
	d time.Duration
	e incident.Event
}

var (
	refused  = incident.Failure{Reason: delivery.ReasonRefused}
	status5  = incident.Failure{Reason: delivery.ReasonServerError, Status: 500}
	limited  = incident.Failure{Reason: delivery.ReasonRateLimited, Status: 429, Immediate: true}
	blocked  = incident.Failure{Reason: delivery.ReasonBlockedAddress, Immediate: true}
	ownFault = incident.Failure{Reason: delivery.ReasonOwnFault, Immediate: true}
	ok       = incident.Success{Tenant: "T1"}
	tick     = incident.Tick{}
	closed   = incident.Closed{By: "ada"}
)

func rejects(t tenant.ID) incident.Event { return incident.Rejection{Tenant: t, Status: 422} }
func delivered(t tenant.ID) incident.Event {
	return incident.Success{Tenant: t}
}

func switched(d time.Duration, on bool, why partner.OffReason) incident.Event {
	return incident.Switched{Switch: incident.Switch{On: on, Reason: why, At: start.Add(d)}}
}

func machine() incident.Machine {
	return incident.Machine{
		Settings: incident.DefaultSettings(), ClientID: "app1", Endpoint: partner.StateChange, Switch: incident.Switch{On: true},
	}
}

// play runs the events and notes each mail as "<offset> <kind> <n>" and each ending.
func play(t *testing.T, m incident.Machine, events []at) (incident.State, []string, []incident.Decision) {
	t.Helper()
	var s incident.State
	var log []string
	var all []incident.Decision
	for _, e := range events {
		before := s.Encode()
		d := m.Next(s, e.e, start.Add(e.d))
		if s.Encode() != before {
			t.Fatalf("at %v: Next altered its argument", e.d)
		}
		for _, mail := range d.Mails {
			log = append(log, fmt.Sprintf("%v %s %d", e.d, mail.Kind, mail.N))
		}
		if d.Ended != nil {
			log = append(log, fmt.Sprintf("%v ended %s", e.d, d.Ended.Ending))
		}
		s = d.State
		all = append(all, d)
	}
	return s, log, all
}

func TestMachine(t *testing.T) {
	t.Parallel()
	const m, h = time.Minute, time.Hour
	tests := []struct {
		name   string
		events []at
		want   []string
		phase  incident.Phase
	}{
		{"a success of a healthy endpoint is nothing", []at{{0, ok}, {h, tick}}, nil, incident.Healthy},
		{"a failure alone is nothing", []at{{0, refused}}, nil, incident.Failing},
		{"one millisecond early", []at{{0, refused}, {5*m - ms, tick}}, nil, incident.Failing},
		{"at the boundary", []at{{0, refused}, {5 * m, tick}}, []string{"5m0s opened 1"}, incident.Open},
		{"by a failure", []at{{0, refused}, {6 * m, status5}}, []string{"6m0s opened 1"}, incident.Open},
		{"a success starts anew", []at{{0, refused}, {4 * m, ok}, {5 * m, refused}, {10*m - ms, tick}}, nil, incident.Failing},
		{"opened once", []at{{0, refused}, {5 * m, tick}, {5 * m, tick}, {6 * m, refused}}, []string{"5m0s opened 1"}, incident.Open},
		{"at once", []at{{0, blocked}, {ms, blocked}}, []string{"0s opened 1"}, incident.Open},
		{"at once amid other failures", []at{{0, refused}, {m, blocked}}, []string{"1m0s opened 1"}, incident.Open},
		{"429 is never at once", []at{{0, limited}, {5*m - ms, limited}}, nil, incident.Failing},
		{"429 alone opens in the end", []at{{0, limited}, {5 * m, limited}}, []string{"5m0s opened 1"}, incident.Open},
		{"own faults are nobody's", []at{{0, ownFault}, {h, tick}}, nil, incident.Healthy},
		{"own faults do not prolong", []at{{0, refused}, {m, ok}, {2 * m, ownFault}, {9 * m, tick}}, nil, incident.Healthy},
		{
			"recovered at the boundary",
			[]at{{0, blocked}, {m, ok}, {2*m - ms, tick}, {2 * m, tick}, {3 * m, tick}},
			[]string{"0s opened 1", "2m0s recovered 2", "2m0s ended recovered"},
			incident.Healthy,
		},
		{
			"recovered by a success",
			[]at{{0, blocked}, {m, ok}, {2 * m, ok}},
			[]string{"0s opened 1", "2m0s recovered 2", "2m0s ended recovered"},
			incident.Healthy,
		},
		{
			"flapping is one incident",
			[]at{{0, blocked}, {m, ok}, {2*m - ms, refused}, {3 * m, ok}, {4*m - ms, tick}, {4 * m, tick}},
			[]string{"0s opened 1", "4m0s recovered 2", "4m0s ended recovered"},
			incident.Healthy,
		},
		{"a failure at the boundary comes first", []at{{0, blocked}, {m, ok}, {2 * m, refused}}, []string{"0s opened 1"}, incident.Open},
		{
			"reminders",
			[]at{{0, blocked}, {24*h - ms, tick}, {24 * h, tick}, {25 * h, refused}, {72 * h, tick}, {200 * h, refused}},
			[]string{"0s opened 1", "24h0m0s reminder 2", "72h0m0s reminder 3"},
			incident.Open,
		},
		{"missed reminders are one", []at{{0, blocked}, {100 * h, tick}, {101 * h, tick}}, []string{"0s opened 1", "100h0m0s reminder 2"}, incident.Open},
		{"no reminder while it recovers", []at{{0, blocked}, {24*h - ms, ok}, {24 * h, tick}}, []string{"0s opened 1"}, incident.Recovering},
		{
			"switched off by the service",
			[]at{{0, blocked}, {120 * h, switched(120*h, false, partner.OffFailing)}, {121 * h, tick}, {300 * h, tick}},
			[]string{"0s opened 1", "120h0m0s switched_off 2"},
			incident.Off,
		},
		{
			"gone is one mail",
			[]at{{0, incident.Failure{Reason: delivery.ReasonGone, Status: 410}}, {ms, switched(ms, false, partner.OffGone)}, {2 * ms, refused}},
			[]string{"1ms switched_off 1"},
			incident.Off,
		},
		{
			"switched off and told again",
			[]at{{0, switched(0, false, partner.OffGone)}, {m, switched(0, false, partner.OffGone)}},
			[]string{"0s switched_off 1"},
			incident.Off,
		},
		{
			"switched on again and well",
			[]at{{0, switched(0, false, partner.OffGone)}, {h, ok}, {2 * h, switched(2*h, true, "")}, {2*h + m, tick}, {3 * h, ok}, {3*h + m, tick}},
			[]string{"0s switched_off 1", "3h1m0s recovered 2", "3h1m0s ended recovered"},
			incident.Healthy,
		},
		{
			"switched on again and off again",
			[]at{{0, switched(0, false, partner.OffGone)}, {h, switched(h, true, "")}, {2 * h, switched(2*h, false, partner.OffGone)}},
			[]string{"0s switched_off 1", "2h0m0s switched_off 2"},
			incident.Off,
		},
		{
			"switching heard of in the wrong order",
			[]at{{0, switched(0, false, partner.OffGone)}, {h, switched(h, true, "")}, {h + ms, switched(0, false, partner.OffGone)}},
			[]string{"0s switched_off 1"},
			incident.Open,
		},
		{
			"people switch off",
			[]at{{0, blocked}, {m, switched(m, false, "")}, {h, tick}},
			[]string{"0s opened 1", "1m0s ended switched_off"},
			incident.Healthy,
		},
		{"people switch a failing one off", []at{{0, refused}, {m, switched(m, false, "")}, {h, tick}}, nil, incident.Healthy},
		{
			"closed stays silent until it was well",
			[]at{{0, blocked}, {m, closed}, {2 * m, blocked}, {h, refused}, {30 * h, tick}},
			[]string{"0s opened 1", "1m0s closed 2", "1m0s ended closed"},
			incident.Muted,
		},
		{
			"closed, well, failing",
			[]at{{0, blocked}, {m, closed}, {2 * m, ok}, {3 * m, refused}, {8 * m, tick}},
			[]string{"0s opened 1", "1m0s closed 2", "1m0s ended closed", "8m0s opened 1"},
			incident.Open,
		},
		{
			"closed while it recovers",
			[]at{{0, blocked}, {m, ok}, {m + ms, closed}, {2 * m, tick}, {3 * m, blocked}},
			[]string{"0s opened 1", "1m0.001s closed 2", "1m0.001s ended closed", "3m0s opened 1"},
			incident.Open,
		},
		{"closing nothing", []at{{0, closed}}, nil, incident.Healthy},
		{
			"closed while switched off stays quiet",
			[]at{{0, switched(0, false, partner.OffGone)}, {m, closed}, {h, switched(0, false, partner.OffGone)}, {1000 * h, tick}},
			[]string{"0s switched_off 1", "1m0s closed 2", "1m0s ended closed"},
			incident.Muted,
		},
		{
			"abandoned",
			[]at{{0, blocked}, {720 * h, tick}, {720*h + ms, tick}, {721 * h, tick}},
			[]string{"0s opened 1", "720h0m0s reminder 2", "720h0m0.001s ended abandoned"},
			incident.Healthy,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, log, _ := play(t, machine(), tt.events)
			if diff := cmp.Diff(tt.want, log); diff != "" {
				t.Errorf("mails and endings (-want +got):\n%s", diff)
			}
			if s.Phase() != tt.phase {
				t.Errorf("phase %s, want %s: %s", s.Phase(), tt.phase, s.Encode())
			}
		})
	}
}

func TestRejectedNotifications(t *testing.T) {
	t.Parallel()
	const m, h = time.Minute, time.Hour
	tests := []struct {
		name   string
		events []at
		want   []string
	}{
		{"early", []at{{0, rejects("T1")}, {5*m - ms, tick}}, nil},
		{"unresolved", []at{{0, rejects("T1")}, {m, ok2()}, {5 * m, tick}}, []string{"5m0s opened 1"}},
		{"resolved", []at{{0, rejects("T1")}, {m, delivered("T1")}, {h, tick}}, nil},
		{"each for itself", []at{{0, rejects("T1")}, {3 * m, rejects("T2")}, {4 * m, delivered("T1")}, {8*m - ms, tick}}, nil},
		{
			"over when the last is delivered",
			[]at{{0, rejects("T1")}, {m, rejects("T2")}, {5 * m, tick}, {6 * m, delivered("T1")}, {8 * m, tick}, {9 * m, delivered("T2")}, {10 * m, tick}},
			[]string{"5m0s opened 1", "10m0s recovered 2", "10m0s ended recovered"},
		},
		{
			"over when withdrawn",
			[]at{{0, rejects("T1")}, {5 * m, tick}, {6 * m, incident.DeliveriesWithdrawn{Tenants: []tenant.ID{"T1", "T9"}}}, {7 * m, tick}},
			[]string{"5m0s opened 1", "7m0s recovered 2", "7m0s ended recovered"},
		},
		{
			"forgotten when nothing more is heard",
			[]at{{0, rejects("T1")}, {36 * h, tick}, {36*h + ms, tick}, {36*h + m + ms, tick}},
			[]string{"36h0m0s opened 1", "36h1m0.001s recovered 2", "36h1m0.001s ended recovered"},
		},
		{
			"the endpoint's failure and a tenant's are one incident",
			[]at{{0, refused}, {5 * m, tick}, {6 * m, rejects("T1")}, {20 * m, tick}, {21 * m, delivered("T1")}, {22 * m, tick}},
			[]string{"5m0s opened 1", "22m0s recovered 2", "22m0s ended recovered"},
		},
		{"an answer ends the endpoint's failure", []at{{0, refused}, {4 * m, rejects("T1")}, {9*m - ms, tick}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, log, _ := play(t, machine(), tt.events)
			if diff := cmp.Diff(tt.want, log); diff != "" {
				t.Errorf("mails and endings (-want +got):\n%s", diff)
			}
		})
	}
}

func ok2() incident.Event { return incident.Success{Tenant: "T2"} }

// TestNextTry: a mail names the time of the next attempt when the pause is longer than any other cool-down.
func TestNextTry(t *testing.T) {
	t.Parallel()
	for wait, told := range map[time.Duration]bool{0: false, 2 * time.Minute: false, 2*time.Minute + time.Millisecond: true, time.Hour: true} {
		m := machine()
		m.NextTryAt = start.Add(wait)
		d := m.Next(incident.State{}, blocked, start)
		if got := d.Mails[0].NextTry; got.IsZero() == told || told && !got.Equal(m.NextTryAt) {
			t.Errorf("a gate that opens in %v is told as %v", wait, got)
		}
	}
	m := machine()
	m.Endpoint = partner.Mirroring
	for _, next := range []time.Time{{}, start, start.Add(time.Minute), start.Add(time.Hour)} {
		m.NextTryAt = next
		if got := m.Next(incident.State{}, blocked, start).Mails[0].NextTry; !got.Equal(next) {
			t.Errorf("a probe at %v is told as %v", next, got)
		}
	}
	m = machine()
	m.NextTryAt = start.Add(time.Hour)
	if got := m.Next(incident.State{}, switched(0, false, partner.OffGone), start).Mails; len(got) != 1 || !got[0].NextTry.IsZero() {
		t.Errorf("an endpoint that is off is tried again: %+v", got)
	}
}

// TestCloseSaysWhatIsOff: the close of an incident calls no endpoint again that the service switched off.
func TestCloseSaysWhatIsOff(t *testing.T) {
	t.Parallel()
	for _, why := range []partner.OffReason{"", partner.OffGone, partner.OffFailing} {
		events := []at{{0, blocked}}
		m := machine()
		if why != "" {
			m.Switch = incident.Switch{Reason: why, At: start}
		}
		_, log, all := play(t, m, append(events, at{time.Hour, closed}))
		mails := all[len(all)-1].Mails
		if len(mails) != 1 || mails[0].Kind != incident.KindClosed || mails[0].OffReason != why {
			t.Errorf("closed while it is off as %q: %+v, %q", why, mails, log)
		}
	}
}

func TestMailNamesTheTenants(t *testing.T) {
	t.Parallel()
	_, _, all := play(t, machine(), []at{{0, rejects("T2")}, {0, rejects("T1")}, {5 * time.Minute, tick}})
	got := all[2].Mails[0]
	want := incident.Mail{
		Kind: incident.KindOpened, Incident: incident.NewID("app1", partner.StateChange, start.Add(5*time.Minute)), N: 1,
		At: start.Add(5 * time.Minute), Since: start, Tenants: []tenant.ID{"T1", "T2"},
		Failure: &incident.PublicFailure{Reason: delivery.ReasonClientError, Status: 422, At: start},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mail (-want +got):\n%s", diff)
	}
}

func TestSwitchedOffBeforeItsCauseIsHeard(t *testing.T) {
	t.Parallel()
	m := machine()
	m.Switch = incident.Switch{Reason: partner.OffGone, At: start}
	d := m.Next(incident.State{}, incident.Failure{Reason: delivery.ReasonGone, Status: 410}, start)
	if len(d.Mails) != 1 || d.Mails[0].Kind != incident.KindSwitchedOff || d.Mails[0].Failure == nil || d.Mails[0].Failure.Status != 410 {
		t.Errorf("mails %+v, want one that names the 410", d.Mails)
	}
	if d = m.Next(d.State, refused, start.Add(time.Second)); d.State.Last.Status != 410 || len(d.Mails) != 0 {
		t.Errorf("a late answer changed the cause to %+v", d.State.Last)
	}
}

func TestRejectedTenantsAreBounded(t *testing.T) {
	t.Parallel()
	var s incident.State
	for i := range 80 {
		s = machine().Next(s, rejects(tenant.ID(fmt.Sprintf("T%d", i))), start).State
	}
	if len(s.Rejected) != 50 {
		t.Fatalf("kept %d tenants, want 50", len(s.Rejected))
	}
	s = machine().Next(s, delivered("T3"), start).State
	s = machine().Next(s, rejects("T79"), start).State
	if _, known := s.Rejected["T79"]; !known || len(s.Rejected) != 50 {
		t.Error("a tenant found no place although one was free")
	}
}

func TestReopenedSaysSo(t *testing.T) {
	t.Parallel()
	first := []at{{0, blocked}, {time.Minute, ok}, {2 * time.Minute, tick}}
	for _, tt := range []struct {
		name  string
		after time.Duration
		want  int
	}{{"soon", time.Hour, 1}, {"late", time.Hour + ms, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, all := play(t, machine(), append(slices.Clone(first), at{2*time.Minute + tt.after, blocked}))
			firstID, m := all[0].Mails[0].Incident, all[3].Mails[0]
			if m.Reopened != tt.want || m.Incident == firstID {
				t.Errorf("reopened %d in %s, want %d in another incident than %s", m.Reopened, m.Incident, tt.want, firstID)
			}
			if (m.Previous == firstID) != (tt.want > 0) {
				t.Errorf("previous incident %q, want %q only when reopened", m.Previous, firstID)
			}
		})
	}
}

func TestIncidentsWithinOneMillisecondHaveIDsOfTheirOwn(t *testing.T) {
	t.Parallel()
	m := machine()
	m.Settings.RecoverAfter = 0
	_, _, all := play(t, m, []at{{0, blocked}, {0, ok}, {0, blocked}, {0, ok}, {0, blocked}})
	a, b, c := all[0].Mails[0].Incident, all[2].Mails[0].Incident, all[4].Mails[0].Incident
	if a == b || b == c || a == c {
		t.Errorf("incidents are %s, %s and %s", a, b, c)
	}
}

func TestHeldDeliveriesOpenNothing(t *testing.T) {
	t.Parallel()
	m := machine()
	m.Paused = true
	s, log, _ := play(t, m, []at{{0, refused}, {time.Hour, tick}, {time.Hour, blocked}})
	if len(log) != 0 {
		t.Fatalf("mails while held: %v", log)
	}
	if d := machine().Next(s, tick, start.Add(time.Hour)); len(d.Mails) != 1 {
		t.Errorf("%d mails after the hold, want 1", len(d.Mails))
	}
}

func TestPeakOfTheBacklogIsTold(t *testing.T) {
	t.Parallel()
	m := machine()
	m.Backlog = incident.Backlog{Notifications: 5, Tenants: 3, Superseded: 9}
	s := m.Next(incident.State{}, blocked, start).State
	m.Backlog = incident.Backlog{Notifications: 8, Tenants: 2}
	s = m.Next(s, ok, start).State
	m.Backlog = incident.Backlog{}
	d := m.Next(s, tick, start.Add(time.Minute))
	want := incident.Backlog{Notifications: 8, Tenants: 3, Superseded: 9}
	if len(d.Mails) != 1 || d.Mails[0].Backlog != want || d.Ended.Peak != want {
		t.Errorf("mails %+v, want one with %+v", d.Mails, want)
	}
}

func TestRepeatedFailuresAreNotedSparsely(t *testing.T) {
	t.Parallel()
	s := machine().Next(incident.State{}, status5, start).State
	before := s.Encode()
	for _, tt := range []struct {
		e       incident.Event
		d       time.Duration
		changes bool
	}{
		{status5, 10*time.Second - ms, false},
		{status5, 10 * time.Second, true},
		{incident.Failure{Reason: delivery.ReasonServerError, Status: 502}, time.Second, true},
		{refused, time.Second, true},
	} {
		next := machine().Next(s, tt.e, start.Add(tt.d)).State
		if got := next.Encode() != before; got != tt.changes {
			t.Errorf("%+v after %v changes the state: %v, want %v", tt.e, tt.d, got, tt.changes)
		}
	}
}

func TestSwitchOffAt(t *testing.T) {
	t.Parallel()
	set := incident.DefaultSettings()
	for _, tt := range []struct {
		name        string
		failing, on time.Time
		after       time.Duration
		want        time.Time
	}{
		{"never", start, time.Time{}, 0, time.Time{}},
		{"well", time.Time{}, start, 120 * time.Hour, time.Time{}},
		{"five days", start, time.Time{}, 120 * time.Hour, start.Add(120 * time.Hour)},
		{"switched on before", start, start.Add(96 * time.Hour), 120 * time.Hour, start.Add(120 * time.Hour)},
		{"switched on within a day", start, start.Add(96*time.Hour + ms), 120 * time.Hour, start.Add(120*time.Hour + ms)},
	} {
		set.SwitchOffAfter = tt.after
		if got := set.SwitchOffAt(tt.failing, tt.on); !got.Equal(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
