package health

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// Word is how an endpoint is, in one word: a member of the API and a metric label. Adding one
// means: the constant, Words, Assess, docs/api.md and the dashboards.
type Word string

// The closed set of words.
const (
	// WordHealthy: it answered as it should when it was last tried.
	WordHealthy Word = "healthy"
	// WordFailing: it has been failing for a while.
	WordFailing Word = "failing"
	// WordOff: it is switched off, has no URL here, or its app is paused.
	WordOff Word = "off"
	// WordUnchecked: it was not tried yet, or cannot be.
	WordUnchecked Word = "unchecked"
	// WordUnlicensed: it is on, but waits for a licence.
	WordUnlicensed Word = "waiting_for_license"
)

// Words lists the closed set.
func Words() []Word {
	return []Word{WordHealthy, WordFailing, WordOff, WordUnchecked, WordUnlicensed}
}

// By says who switched an endpoint off.
type By string

// The closed set of those who switch off; empty for an endpoint that nobody ever switched.
const (
	ByPeople  By = "people"
	ByService By = "service"
)

// Bys lists the closed set.
func Bys() []By { return []By{ByPeople, ByService} }

// Subject is all that an assessment looks at.
type Subject struct {
	Kind        partner.EndpointKind
	Endpoint    partner.Endpoint
	Environment partner.Environment
	// Paused is set when the app holds its notifications back.
	Paused bool
	// Missing is the licence that the endpoint needs and the app was not granted, empty for none.
	Missing partner.License
	// FailingSince is when the trouble began that its incident tells of, zero when there is none.
	FailingSince time.Time
	// FailingReason and FailingDetail are that trouble's, as the incident knows them.
	FailingReason, FailingDetail string
	// Probe is what probes know of it.
	Probe State
	// TriedAt is when a notification was last posted, for the state-change endpoint.
	TriedAt time.Time
	// Probing is false when this deployment probes nothing.
	Probing bool
}

// Assessment is how an endpoint is.
type Assessment struct {
	Word Word
	// Since is when that began, zero where it is not known.
	Since time.Time
	// Reason is one word about why, empty where there is nothing to say.
	Reason string
	// Detail is a sentence about why, for people.
	Detail string
	// By is who switched it off.
	By By
	// CheckedAt is when it was last tried, NextCheckAt when it will be probed, CertificateEnds
	// when its TLS certificate ends; zero where unknown.
	CheckedAt, NextCheckAt, CertificateEnds time.Time
}

// Assess says how an endpoint is.
func Assess(s Subject) Assessment {
	if a, off := assessOff(&s); off {
		return a
	}
	a := Assessment{Word: WordHealthy}
	if s.Kind == partner.StateChange {
		a.CheckedAt = s.TriedAt
	} else if known := s.Probe.Target == TargetOf(s.Endpoint.EffectiveURL(s.Environment)); known {
		a.CheckedAt, a.NextCheckAt, a.CertificateEnds = s.Probe.CheckedAt, s.Probe.Due, s.Probe.CertificateEnds
	}
	if s.Missing != "" {
		a.Word, a.Reason, a.NextCheckAt = WordUnlicensed, string(s.Missing), time.Time{}
		a.Detail = "It is switched on, but the app was not granted the licence " + string(s.Missing) + ": it is neither called nor probed."
		return a
	}
	if !s.Probing {
		a.NextCheckAt = time.Time{}
	}
	switch probed := s.Kind != partner.StateChange && !a.CheckedAt.IsZero(); {
	case !s.FailingSince.IsZero():
		a.Word, a.Since, a.Reason, a.Detail = WordFailing, s.FailingSince, s.FailingReason, s.FailingDetail
		if probed && s.Probe.Reason.Failing() { // it knows more exactly
			a.Reason, a.Detail = string(s.Probe.Reason), s.Probe.Detail
		}
	case probed && s.Probe.Reason.Failing():
		a.Word, a.Since, a.Reason, a.Detail = WordFailing, s.Probe.FailingSince, string(s.Probe.Reason), s.Probe.Detail
	case probed && (s.Probe.Reason == NoTenant || s.Probe.Reason == Unreadable):
		a.Word, a.Reason, a.Detail = WordUnchecked, string(s.Probe.Reason), s.Probe.Detail
	case probed:
		a.Detail = s.Probe.Detail
	case a.CheckedAt.IsZero():
		a.Word, a.Detail = WordUnchecked, unchecked(&s)
	}
	return a
}

func unchecked(s *Subject) string {
	switch {
	case s.Kind == partner.StateChange:
		return "No notification was posted to it yet."
	case !s.Probing:
		return "It was not tried yet, and this deployment probes nothing."
	default:
		return "It was not tried yet at this URL."
	}
}

func assessOff(s *Subject) (Assessment, bool) {
	e := &s.Endpoint
	a := Assessment{Word: WordOff}
	switch {
	case !e.Enabled:
		a.Since, a.Reason = e.SwitchedAt, string(e.OffReason)
		switch {
		case e.OffReason != "":
			a.By, a.Detail = ByService, "The service switched it off: "+offWords(e.OffReason)+"."
		case !e.SwitchedAt.IsZero():
			a.By, a.Detail = ByPeople, "People switched it off."
		default:
			a.Detail = "It was never switched on."
		}
	case e.EffectiveURL(s.Environment) == "":
		a.Reason, a.Detail = "no_url", "It is switched on, but has no URL for the environment "+string(s.Environment)+"."
	case s.Kind == partner.StateChange && s.Paused:
		a.Reason, a.By, a.Detail = "paused", ByPeople, "People paused the app."
	default:
		return Assessment{}, false
	}
	return a, true
}

func offWords(r partner.OffReason) string {
	switch r {
	case partner.OffGone:
		return "it answered that it is gone for good"
	case partner.OffFailing:
		return "it failed for too long without a break"
	default:
		return string(r)
	}
}
