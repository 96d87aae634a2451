package incident_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
)

// minutes plays events while a common cause lasts from one minute until another, and ticks each minute for 50 minutes. It returns
// the mails as "<minute> <kind>", with "together" where they say so.
func minutes(from, until int, events map[int]incident.Event) []string {
	m, log := machine(), []string{}
	var s incident.State
	for i := range 50 {
		now := start.Add(time.Duration(i) * time.Minute)
		if m.CommonCause = (incident.CommonCause{}); from >= 0 && i >= from {
			m.CommonCause.Since = start.Add(time.Duration(from) * time.Minute)
			if i >= until {
				m.CommonCause.Until = start.Add(time.Duration(until) * time.Minute)
			}
		}
		list := []incident.Event{tick}
		if e := events[i]; e != nil {
			list = []incident.Event{e, tick}
		}
		for _, e := range list {
			d := m.Next(s, e, now)
			for _, mail := range d.Mails {
				text := fmt.Sprintf("%d %s", i, mail.Kind)
				if !mail.CommonSince.IsZero() {
					text += " together"
				}
				log = append(log, text)
			}
			s = d.State
		}
	}
	return log
}

// every is an event in each minute from one on, before another.
func every(from, before int, e incident.Event, more ...map[int]incident.Event) map[int]incident.Event {
	out := map[int]incident.Event{}
	for i := from; i < before; i++ {
		out[i] = e
	}
	for _, m := range more {
		maps.Copy(out, m)
	}
	return out
}

func TestCommonCause(t *testing.T) {
	t.Parallel()
	slow, unknown := incident.Failure{Reason: delivery.ReasonTimeout}, incident.Failure{Reason: delivery.ReasonDNS}
	reported := incident.Failure{Reason: delivery.ReasonTimeout, Source: incident.SourceReport, Count: 20}
	for name, tc := range map[string]struct {
		from, until int
		events      map[int]incident.Event
		want        []string
	}{
		"NoneAtAll":            {-1, 0, every(1, 50, refused), []string{"6 opened"}},
		"MendedInTime":         {1, 30, every(1, 30, refused, every(30, 50, ok)), nil},
		"MendedAfterAMinute":   {1, 29, every(1, 30, slow, every(30, 50, ok)), nil},
		"NotMended":            {1, 99, every(1, 50, unknown), []string{"31 opened together"}},
		"MendedTooLate":        {1, 35, every(1, 35, refused, every(35, 50, ok)), []string{"31 opened together", "36 recovered"}},
		"ReallyDown":           {1, 20, every(1, 50, refused), []string{"25 opened"}},
		"DownBefore":           {5, 20, every(1, 50, refused), []string{"25 opened"}},
		"OpenBefore":           {7, 20, every(1, 50, refused), []string{"6 opened"}},
		"OpenBeforeAndWell":    {7, 20, every(1, 20, refused, every(20, 50, ok)), []string{"6 opened", "21 recovered"}},
		"DownAfter":            {1, 20, every(22, 50, refused), []string{"27 opened"}},
		"OverWhenItEnds":       {1, 33, every(2, 50, refused), []string{"31 opened together"}},
		"AnswersAreNoFailure":  {1, 99, every(1, 50, status5), []string{"6 opened"}},
		"BlockedIsToldAtOnce":  {1, 99, every(2, 50, blocked), []string{"2 opened"}},
		"EnginesHaveTheirWay":  {1, 99, every(1, 50, reported), []string{"6 opened"}},
		"AnsweredInTheMeantim": {1, 99, every(1, 50, refused, map[int]incident.Event{10: status5, 11: status5, 12: status5}), []string{"10 opened"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := minutes(tc.from, tc.until, tc.events); !slices.Equal(got, tc.want) {
				t.Errorf("mails %q, want %q", got, tc.want)
			}
		})
	}
}

// A common cause must not have the reminder of an open incident written either; it is written once it is over.
func TestCommonCauseHoldsReminders(t *testing.T) {
	t.Parallel()
	m := machine()
	d := m.Next(incident.State{}, refused, start)
	d = m.Next(d.State, refused, start.Add(5*time.Minute))
	day := start.Add(24*time.Hour + 5*time.Minute)
	m.CommonCause = incident.CommonCause{Since: day.Add(-time.Minute)}
	if d = m.Next(d.State, refused, day); len(d.Mails) > 0 {
		t.Errorf("while it lasts: %v", d.Mails)
	}
	m.CommonCause.Until = day.Add(time.Minute)
	if d = m.Next(d.State, refused, day.Add(time.Minute)); len(d.Mails) != 1 || d.Mails[0].Kind != incident.KindReminder {
		t.Errorf("after it: %v", d.Mails)
	}
}

func TestCommonExcuses(t *testing.T) {
	t.Parallel()
	ended := incident.CommonCause{Since: start, Until: start.Add(time.Hour)}
	for name, tc := range map[string]struct {
		common incident.CommonCause
		after  time.Duration
		want   bool
	}{
		"None": {incident.CommonCause{}, 0, false}, "Lasts": {incident.CommonCause{Since: start}, 0, true}, "LastsForDays": {incident.CommonCause{Since: start}, 100 * time.Hour, true},
		"JustEnded": {ended, time.Hour, true}, "EndedAWhileAgo": {ended, time.Hour + 5*time.Minute, false},
	} {
		if got := tc.common.PreventsSwitchOff(start.Add(tc.after), 5*time.Minute); got != tc.want {
			t.Errorf("%s: excused %v", name, got)
		}
	}
}

// Whatever happens: while a common cause holds, no mail speaks of a failure on the connection, and afterwards none comes
// before the endpoint had time to recover.
func TestCommonCauseBlamesNobody(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, now := machine(), start
		var s incident.State
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 120_000).Draw(t, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 9).Draw(t, "common") {
			case 0:
				m.CommonCause = incident.CommonCause{Since: now}
			case 1:
				if m.CommonCause.IsOngoing() {
					m.CommonCause.Until = now
				}
			}
			d := m.Next(s, anyEvent(t, now), now)
			for _, mail := range d.Mails {
				if mail.Kind != incident.KindOpened && mail.Kind != incident.KindReminder || mail.Failure == nil || mail.Failure.Source == incident.SourceReport || len(mail.Tenants) > 0 {
					continue
				}
				switch mail.Failure.Reason {
				case delivery.ReasonTimeout, delivery.ReasonDNS, delivery.ReasonRefused, delivery.ReasonReset, delivery.ReasonTLS:
				default:
					continue
				}
				c := m.CommonCause
				if c.DelaysMails(now) {
					t.Fatalf("%s for %v at %v, within %+v", mail.Kind, mail.Failure.Reason, now, c)
				}
				spell := c.Until.Sub(c.Since)
				if late := c.Until.After(mail.Since) && now.Sub(c.Until) >= m.Settings.OpenAfter; c.Until.After(mail.Since) && spell < 30*time.Minute &&
					mail.Kind == incident.KindOpened && !late && !immediate(mail) {
					t.Fatalf("opened at %v after %+v", now, c)
				}
				if c.IsOngoing() == mail.CommonSince.IsZero() {
					t.Fatalf("the mail says %v of %+v", mail.CommonSince, c)
				}
			}
			s = d.State
		}
	})
}

// immediate reports a mail about an incident that opened at once.
func immediate(m incident.Mail) bool { return m.At.Equal(m.Failure.At) }
