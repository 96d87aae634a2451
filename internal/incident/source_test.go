package incident_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var (
	probed   = incident.Failure{Reason: delivery.ReasonServerError, Status: 500, Source: incident.SourceProbe}
	wrongKey = incident.Failure{Reason: delivery.ReasonWrongKey, Source: incident.SourceProbe, Immediate: true}
	healthy  = incident.Success{}
)

func reports(n int64, ts ...tenant.ID) incident.Event {
	return incident.Failure{Reason: delivery.ReasonServerError, Status: 503, Source: incident.SourceReport, Count: n, Tenants: ts}
}

// Pushes, probes and reports are one incident; engines' reports outweigh what others see.
func TestSources(t *testing.T) {
	t.Parallel()
	const m, h = time.Minute, time.Hour
	for _, tt := range []struct {
		name   string
		events []at
		want   []string
		phase  incident.Phase
	}{
		{"a wrong key opens at once", []at{{0, wrongKey}}, []string{"0s opened 1"}, incident.Open},
		{
			"all sources are one incident",
			[]at{{0, probed}, {4 * m, refused}, {5*m - ms, reports(3, "T1")}, {5 * m, tick}, {6 * m, wrongKey}},
			[]string{"5m0s opened 1"},
			incident.Open,
		},
		{
			"a probe is answered while engines fail",
			[]at{{0, reports(1)}, {m, healthy}, {3 * m, reports(1)}, {4 * m, healthy}, {5 * m, tick}},
			[]string{"5m0s opened 1"},
			incident.Open,
		},
		{
			"a success counts once engines are silent",
			[]at{{0, reports(10)}, {5 * m, tick}, {5*m - ms, healthy}, {5 * m, healthy}, {6 * m, tick}},
			[]string{"5m0s opened 1", "6m0s recovered 2", "6m0s ended recovered"},
			incident.Healthy,
		},
		{
			"a success one millisecond early does not",
			[]at{{0, reports(10)}, {5*m - ms, healthy}, {7 * m, tick}},
			[]string{"7m0s opened 1"},
			incident.Open,
		},
		{
			"no report for an hour is well",
			[]at{{0, reports(10)}, {5 * m, tick}, {h - ms, tick}, {h, tick}, {h + m, tick}},
			[]string{"5m0s opened 1", "1h1m0s recovered 2", "1h1m0s ended recovered"},
			incident.Healthy,
		},
		{
			"a probe that fails keeps it open",
			[]at{{0, reports(10)}, {5 * m, tick}, {6 * m, probed}, {3 * h, tick}},
			[]string{"5m0s opened 1"},
			incident.Open,
		},
		{
			"one report between healthy probes tells nobody",
			[]at{{0, healthy}, {m, reports(1)}, {5 * m, healthy}, {6 * m, tick}, {9 * m, tick}, {10 * m, healthy}, {11 * m, tick}},
			nil,
			incident.Healthy,
		},
		{
			"nor does one that nobody else could confirm",
			[]at{{0, reports(8)}, {m - ms, reports(1)}, {30 * m, tick}, {h + m, tick}},
			nil,
			incident.Healthy,
		},
		{"reports that go on do", []at{{0, reports(1)}, {m, reports(1)}, {5 * m, tick}}, []string{"5m0s opened 1"}, incident.Open},
		{"ten at once do", []at{{0, reports(10)}, {5 * m, tick}}, []string{"5m0s opened 1"}, incident.Open},
		{"a probe confirms one", []at{{0, reports(1)}, {2 * m, probed}, {5 * m, tick}}, []string{"5m0s opened 1"}, incident.Open},
		{
			"a probe that is answered takes its own word back",
			[]at{{0, probed}, {m / 2, reports(1)}, {2 * m, healthy}, {9 * m, tick}},
			nil,
			incident.Failing,
		},
		{
			"nobody calls it any more",
			[]at{{0, wrongKey}, {m, incident.EndpointUnused{}}, {24 * h, tick}, {25 * h, incident.EndpointUnused{}}},
			[]string{"0s opened 1", "1m0s ended uncalled"},
			incident.Healthy,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, log, _ := play(t, machine(), tt.events)
			if diff := cmp.Diff(tt.want, log); diff != "" {
				t.Errorf("mails and endings (-want +got):\n%s", diff)
			}
			if s.Phase() != tt.phase {
				t.Errorf("phase %s, want %s", s.Phase(), tt.phase)
			}
		})
	}
}

// Only what pushes and probes see fail is ever switched off.
func TestWhoSeesItFail(t *testing.T) {
	t.Parallel()
	const m, h = time.Minute, time.Hour
	old := incident.State{FailingSince: start, Last: &incident.Failure{Source: incident.SourceProbe, At: start.Add(m)}}
	for _, tt := range []struct {
		name        string
		from        incident.State
		events      []at
		since, last time.Duration // -1 for never
	}{
		{"engines alone", incident.State{}, []at{{0, reports(9)}, {h, reports(9)}}, -1, -1},
		{"a probe too", incident.State{}, []at{{0, reports(9)}, {m, probed}, {h, reports(1)}, {2 * h, probed}, {3 * h, reports(1)}}, m, 2 * h},
		{"a push", incident.State{}, []at{{0, refused}, {m, refused}}, 0, m},
		{"no longer", incident.State{}, []at{{0, probed}, {m, reports(9)}, {2 * m, healthy}, {3 * m, reports(9)}}, -1, -1},
		{"for an older version", old, nil, 0, m},
		{"for an older version, then reports", old, []at{{2 * m, reports(1)}, {3 * m, reports(1)}}, 0, m},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := tt.from
			for _, e := range tt.events {
				s = machine().Next(s, e.e, start.Add(e.d)).State
			}
			since, last := s.SeenFailing()
			for what, pair := range map[string][2]time.Time{"since": {since, start.Add(tt.since)}, "last": {last, start.Add(tt.last)}} {
				if want := pair[1]; want.Before(start) != pair[0].IsZero() || !pair[0].IsZero() && !pair[0].Equal(want) {
					t.Errorf("%s %v, want %v", what, pair[0], want)
				}
			}
		})
	}
	d := machine().Next(machine().Next(incident.State{}, reports(10), start).State, tick, start.Add(5*m))
	if len(d.Mails) != 1 || !d.Mails[0].SwitchOffAt.IsZero() {
		t.Errorf("mails %+v, want one that names no switch-off", d.Mails)
	}
}

func TestReportsAreCounted(t *testing.T) {
	t.Parallel()
	s, _, all := play(t, machine(), []at{
		{0, reports(40, "T2", "T1")}, {time.Second, reports(2, "T2")}, {5 * time.Minute, tick},
	})
	m := all[2].Mails[0]
	if m.Reported != 42 || m.AffectedMore || !cmp.Equal(m.Affected, []tenant.ID{"T1", "T2"}) || m.Failure.Source != incident.SourceReport {
		t.Errorf("mail %+v", m)
	}
	many := make([]tenant.ID, 80)
	for i := range many {
		many[i] = tenant.ID(fmt.Sprintf("T%02d", i))
	}
	s = machine().Next(s, reports(80, many...), start.Add(6*time.Minute)).State
	if len(s.Affected) != 50 || !s.AffectedMore || s.Reported != 122 || s.Failures != 122 {
		t.Errorf("remembers %d tenants, more %v, %d calls, %d failures", len(s.Affected), s.AffectedMore, s.Reported, s.Failures)
	}
	if back, err := incident.DecodeState(s.Encode()); err != nil || !cmp.Equal(back, s) {
		t.Errorf("read back: %v\n%s", err, cmp.Diff(s, back))
	}
	s = machine().Next(s, healthy, start.Add(12*time.Minute)).State
	s = machine().Next(s, tick, start.Add(13*time.Minute)).State
	if s.Reported != 0 || len(s.Affected) != 0 || !s.ReportedAt.IsZero() {
		t.Errorf("remembered after the end: %+v", s)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	const day, m = 24 * time.Hour, time.Minute
	cert := func(life, ends time.Duration) incident.Event {
		return incident.Certificate{NotBefore: start.Add(ends - life), NotAfter: start.Add(ends)}
	}
	year, short := cert(365*day, 30*day), cert(6*day, 6*day)
	for _, tt := range []struct {
		name   string
		events []at
		want   []string
	}{
		{"far away", []at{{0, year}, {9*day - ms, year}}, nil},
		{
			"21 and 7 days ahead, once each",
			[]at{{9 * day, year}, {9*day + m, year}, {23*day - ms, year}, {23 * day, year}, {29 * day, year}, {30 * day, year}, {31 * day, tick}},
			[]string{"216h0m0s certificate 1", "552h0m0s certificate 2"},
		},
		{"first seen late is one mail", []at{{25 * day, year}, {26 * day, year}}, []string{"600h0m0s certificate 2"}},
		{"ended already", []at{{30 * day, year}}, nil},
		{"short-lived and fresh", []at{{0, short}, {4*day - ms, short}}, nil},
		{"short-lived and late", []at{{4 * day, short}}, []string{"96h0m0s certificate 2"}},
		{"renewed", []at{{9 * day, year}, {10 * day, cert(365*day, 370*day)}, {24 * day, cert(365*day, 370*day)}}, []string{"216h0m0s certificate 1"}},
		{
			"two machines, two certificates",
			[]at{{9 * day, year}, {9 * day, cert(365*day, 29*day)}, {9 * day, year}, {9 * day, cert(365*day, 29*day)}},
			[]string{"216h0m0s certificate 1", "216h0m0s certificate 1"},
		},
		{"switched off by people", []at{{0, switched(0, false, "")}, {9 * day, year}}, []string{"216h0m0s certificate 1"}},
		{"amid an incident", []at{{9 * day, blocked}, {9 * day, year}, {9*day + m, ok}, {9*day + 2*m, tick}, {9*day + 3*m, year}}, []string{
			"216h0m0s opened 1", "216h0m0s certificate 1", "216h2m0s recovered 2", "216h2m0s ended recovered",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, log, _ := play(t, machine(), tt.events)
			if diff := cmp.Diff(tt.want, log); diff != "" {
				t.Errorf("mails and endings (-want +got):\n%s", diff)
			}
		})
	}
	m9 := machine()
	m9.Switch = incident.Switch{At: start}
	if d := m9.Next(incident.State{}, year, start.Add(9*day)); len(d.Mails) != 0 {
		t.Error("a warning about an endpoint that is off")
	}
}

func TestWarningsAreAThread(t *testing.T) {
	t.Parallel()
	ends := start.Add(30 * 24 * time.Hour)
	c := incident.Certificate{NotBefore: start, NotAfter: ends}
	d := machine().Next(incident.State{}, c, ends.Add(-10*24*time.Hour))
	m := d.Mails[0]
	if m.Incident != incident.NewWarningID("app1", partner.StateChange, ends) {
		t.Errorf("id %s", m.Incident)
	}
	told, was := d.State.MailedBefore(&m, "k")
	if was {
		t.Error("told before")
	}
	d.State.RecordMailed(&m, "k", told)
	d = machine().Next(d.State, c, ends.Add(-24*time.Hour))
	if told, was = d.State.MailedBefore(&d.Mails[0], "k"); !was || told != (incident.MailedTransitions{First: 1, Last: 1}) {
		t.Errorf("told %+v, %v", told, was)
	}
	for range 9 { // other certificates find no place for ever
		ends = ends.Add(time.Millisecond)
		d = machine().Next(d.State, incident.Certificate{NotBefore: start, NotAfter: ends}, ends.Add(-time.Hour))
	}
	if len(d.State.Warned) != 4 {
		t.Errorf("%d remembered", len(d.State.Warned))
	}
	if s := machine().Next(d.State, tick, ends).State; s.Encode() != "" {
		t.Errorf("after the end: %s", s.Encode())
	}
}
