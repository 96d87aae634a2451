package incident_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func anyEvent(t *rapid.T, now time.Time) incident.Event {
	id := tenant.ID(rapid.SampledFrom([]string{"T1", "T2", "T3"}).Draw(t, "tenant"))
	switch rapid.IntRange(0, 11).Draw(t, "event") {
	case 0, 1:
		r := rapid.SampledFrom(delivery.AllReasons()).Draw(t, "reason")
		return incident.Failure{
			Reason: r, Immediate: rapid.Bool().Draw(t, "immediate"), Source: rapid.SampledFrom(incident.AllSources()).Draw(t, "source"),
			Count: rapid.Int64Range(0, 3).Draw(t, "count"), Tenants: []tenant.ID{id},
		}
	case 10:
		ends := start.Add(time.Duration(rapid.IntRange(1, 3).Draw(t, "days")) * 10 * 24 * time.Hour)
		return incident.Certificate{NotBefore: ends.Add(-90 * 24 * time.Hour), NotAfter: ends}
	case 11:
		return incident.EndpointUnused{}
	case 2:
		return incident.Rejection{Tenant: id, Status: 422}
	case 3, 4:
		return incident.Success{Tenant: id}
	case 5:
		return incident.DeliveriesWithdrawn{Tenants: []tenant.ID{id}}
	case 6:
		why := rapid.SampledFrom([]partner.OffReason{"", partner.OffGone, partner.OffFailing}).Draw(t, "why")
		on := rapid.Bool().Draw(t, "on")
		if on {
			why = ""
		}
		back := time.Duration(rapid.IntRange(0, 600).Draw(t, "late")) * time.Second
		return incident.Switched{Switch: incident.Switch{On: on, Reason: why, At: now.Add(-back)}}
	case 7:
		return incident.Closed{By: "ada"}
	default:
		return incident.Tick{}
	}
}

// history is what all mails and endings so far must agree with.
type history struct {
	seen   map[string]bool
	opened map[string]bool
	over   map[string]bool
	lastN  map[string]int
	open   string
}

func (h *history) note(t *rapid.T, d incident.Decision) {
	if len(d.Mails) > 1 {
		t.Fatalf("one step owes %d mails", len(d.Mails))
	}
	for _, m := range d.Mails {
		if m.Kind == incident.KindCertificate {
			h.warned(t, m)
			continue
		}
		id := fmt.Sprintf("%s.%d", m.Incident, m.N)
		switch {
		case h.seen[id]:
			t.Fatalf("two mails for transition %s", id)
		case h.over[m.Incident]:
			t.Fatalf("%s mail of %s, which is over", m.Kind, m.Incident)
		case m.N != h.lastN[m.Incident]+1:
			t.Fatalf("transition %d follows on %d", m.N, h.lastN[m.Incident])
		case m.Kind.EndsIncident() && !h.opened[m.Incident]:
			t.Fatalf("%s ended, but nobody was told that it failed", m.Incident)
		case m.N == 1 && m.Kind != incident.KindOpened && m.Kind != incident.KindSwitchedOff:
			t.Fatalf("the first mail of %s is %s", m.Incident, m.Kind)
		case m.Failure != nil && m.Failure.Reason == delivery.ReasonOwnFault:
			t.Fatal("an own fault is told")
		}
		h.seen[id], h.opened[m.Incident], h.lastN[m.Incident] = true, true, m.N
		if h.open != "" && h.open != m.Incident && !h.over[h.open] {
			t.Fatalf("%s opened while %s was open", m.Incident, h.open)
		}
		h.open = m.Incident
	}
	if e := d.Ended; e != nil {
		if h.over[e.ID] || !h.opened[e.ID] {
			t.Fatalf("%s ended, opened %v, over before %v", e.ID, h.opened[e.ID], h.over[e.ID])
		}
		h.over[e.ID] = true
	}
	if d.State.IsOpen() != (h.open != "" && !h.over[h.open]) {
		t.Fatalf("state says open %v, mails say %q over %v", d.State.IsOpen(), h.open, h.over[h.open])
	}
}

// warned checks a warning: each once, and the later never before the earlier.
func (h *history) warned(t *rapid.T, m incident.Mail) {
	id := fmt.Sprintf("%s.%d", m.Incident, m.N)
	if h.seen[id] || m.N <= h.lastN[m.Incident] || m.N > 2 || !m.CertificateEnds.After(m.At) {
		t.Fatalf("warning %s after %d, at %v of a certificate that ends %v", id, h.lastN[m.Incident], m.At, m.CertificateEnds)
	}
	h.seen[id], h.lastN[m.Incident] = true, m.N
}

func TestProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := &history{seen: map[string]bool{}, opened: map[string]bool{}, over: map[string]bool{}, lastN: map[string]int{}}
		m := machine()
		var s incident.State
		now := start
		advance := func(e incident.Event) {
			if sw, isSwitch := e.(incident.Switched); isSwitch && sw.Switch.At.After(m.Switch.At) {
				m.Switch = sw.Switch
			}
			m.Paused = rapid.IntRange(0, 9).Draw(t, "held") == 0
			d := m.Next(s, e, now)
			h.note(t, d)
			// What is stored is all that counts.
			back, err := incident.DecodeState(d.State.Encode())
			if err != nil {
				t.Fatal(err)
			}
			// A repeat of the same step, as after a lost answer, decides no further mail.
			_, warning := e.(incident.Certificate) // evaluates nothing, so the repeat may
			if again := m.Next(back, incident.Tick{}, now); !warning && len(d.Mails) > 0 && len(again.Mails) > 0 {
				t.Fatalf("the repeat owes %v again", again.Mails)
			}
			s = back
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 9, 59, 60, 61, 299, 300, 3600, 86400}).Draw(t, "wait")) * time.Second)
			advance(anyEvent(t, now))
		}
		// An incident always ends: once the faults stop and it is on, it is over within RecoverAfter.
		now = now.Add(time.Hour)
		advance(incident.Switched{Switch: incident.Switch{On: true, At: now}})
		for _, id := range []tenant.ID{"T1", "T2", "T3"} {
			advance(incident.Success{Tenant: id})
		}
		now = now.Add(time.Minute)
		m.Paused = false
		advance(incident.Tick{})
		if s.IsOpen() {
			t.Fatalf("still open: %s", s.Encode())
		}
		// And nothing is remembered of it for ever.
		now = now.Add(31 * 24 * time.Hour)
		advance(incident.Tick{})
		if text := s.Encode(); text != "" {
			t.Fatalf("remembered: %s", text)
		}
	})
}

func TestSilenceEndsEveryIncident(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := machine()
		var s incident.State
		now := start
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "wait")) * time.Second)
			e := anyEvent(t, now)
			if sw, isSwitch := e.(incident.Switched); isSwitch && sw.Switch.At.After(m.Switch.At) {
				m.Switch = sw.Switch
			}
			s = m.Next(s, e, now).State
		}
		for range 3 { // rejections are forgotten first, then what is left is abandoned
			now = now.Add(m.Settings.AbandonAfter + time.Second)
			s = m.Next(s, incident.Tick{}, now).State
		}
		if s.IsOpen() {
			t.Fatalf("still open: %s", s.Encode())
		}
	})
}
