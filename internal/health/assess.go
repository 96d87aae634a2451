package health

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/told"
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
	// FailingCause and FailingDetail are that trouble's, as the incident knows them.
	FailingCause  told.Cause
	FailingDetail string
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
	// Cause is why, zero where there is nothing to say.
	Cause told.Cause
	// Detail says more where a probe or a post left a text, for operators and admins alone.
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
		a.Word, a.Cause, a.NextCheckAt = WordUnlicensed, told.Named(string(s.Missing)), time.Time{}
		return a
	}
	if !s.Probing {
		a.NextCheckAt = time.Time{}
	}
	switch probed := s.Kind != partner.StateChange && !a.CheckedAt.IsZero(); {
	case !s.FailingSince.IsZero():
		a.Word, a.Since, a.Cause, a.Detail = WordFailing, s.FailingSince, s.FailingCause, s.FailingDetail
		if probed && s.Probe.Reason.Failing() { // it knows more exactly
			a.Cause, a.Detail = s.Probe.Reason.Cause(), s.Probe.Detail
		}
	case probed && s.Probe.Reason.Failing():
		a.Word, a.Since, a.Cause, a.Detail = WordFailing, s.Probe.FailingSince, s.Probe.Reason.Cause(), s.Probe.Detail
	case probed && (s.Probe.Reason == NoTenant || s.Probe.Reason == Unreadable):
		a.Word, a.Cause, a.Detail = WordUnchecked, s.Probe.Reason.Cause(), s.Probe.Detail
	case probed:
		a.Detail = s.Probe.Detail
	case a.CheckedAt.IsZero():
		a.Word, a.Cause = WordUnchecked, unchecked(&s)
	}
	return a
}

func unchecked(s *Subject) told.Cause {
	if s.Kind != partner.StateChange && !s.Probing {
		return told.Named("unprobed")
	}
	return told.Named("untried")
}

func assessOff(s *Subject) (Assessment, bool) {
	e := &s.Endpoint
	a := Assessment{Word: WordOff}
	switch {
	case !e.Enabled:
		a.Since = e.SwitchedAt
		switch {
		case e.OffReason != "":
			a.By, a.Cause = ByService, told.Named(string(e.OffReason))
		case !e.SwitchedAt.IsZero():
			a.By, a.Cause = ByPeople, told.Named("switched_off")
		default:
			a.Cause = told.Named("never_on")
		}
	case e.EffectiveURL(s.Environment) == "":
		a.Cause = told.Named("no_url")
	case s.Kind == partner.StateChange && s.Paused:
		a.Cause, a.By = told.Named("paused"), ByPeople
	default:
		return Assessment{}, false
	}
	return a, true
}
