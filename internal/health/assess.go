package health

import (
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/told"
)

// Status is an endpoint's health in one word: a member of the API and a metric label. Adding one
// means: the constant, AllStatuses, Assess, docs/api.md and the dashboards.
type Status string

// The closed set of statuses.
const (
	// StatusHealthy: it answered as it should when it was last tried.
	StatusHealthy Status = "healthy"
	// StatusFailing: it has been failing for a while.
	StatusFailing Status = "failing"
	// StatusOff: it is switched off, has no URL here, or its app is paused.
	StatusOff Status = "off"
	// StatusUnchecked: it was not tried yet, or cannot be.
	StatusUnchecked Status = "unchecked"
	// StatusUnlicensed: it is on, but waits for a licence.
	StatusUnlicensed Status = "waiting_for_license"
)

// AllStatuses lists the closed set.
func AllStatuses() []Status {
	return []Status{StatusHealthy, StatusFailing, StatusOff, StatusUnchecked, StatusUnlicensed}
}

// SwitchedOffBy says who switched an endpoint off.
type SwitchedOffBy string

// The closed set; it is empty for an endpoint that was never switched.
const (
	SwitchedOffByCaller  SwitchedOffBy = "people"
	SwitchedOffByService SwitchedOffBy = "service"
)

// AllSwitchedOffBy lists the closed set.
func AllSwitchedOffBy() []SwitchedOffBy {
	return []SwitchedOffBy{SwitchedOffByCaller, SwitchedOffByService}
}

// Subject is the input of an assessment.
type Subject struct {
	Kind        partner.EndpointKind
	Endpoint    partner.Endpoint
	Environment partner.Environment
	// Paused is set when the app is paused.
	Paused bool
	// Missing is the licence that the endpoint needs and the app was not granted, empty for none.
	Missing partner.License
	// FailingSince is when the failure of its incident began, zero when there is none.
	FailingSince time.Time
	// FailingCause and FailingDetail are those of that failure.
	FailingCause  told.Cause
	FailingDetail string
	// Probe is the state that probes left.
	Probe State
	// TriedAt is when the last attempt was made, for the state-change endpoint.
	TriedAt time.Time
	// Probing is false when this deployment probes nothing.
	Probing bool
}

// Assessment is an endpoint's health.
type Assessment struct {
	Status Status
	// Since is when that began, zero when it is not known.
	Since time.Time
	// Cause is why, zero when there is no cause.
	Cause told.Cause
	// Detail is the text that a probe or an attempt left, for operators and admins only.
	Detail string
	// By is who switched it off.
	By SwitchedOffBy
	// CheckedAt is the time of the last attempt or probe, NextCheckAt that of the next probe.
	// CertificateEnds is when the TLS certificate ends. Each is zero when unknown.
	CheckedAt, NextCheckAt, CertificateEnds time.Time
}

// Assess returns an endpoint's health.
func Assess(s Subject) Assessment {
	if a, off := assessOff(&s); off {
		return a
	}
	a := Assessment{Status: StatusHealthy}
	if s.Kind == partner.StateChange {
		a.CheckedAt = s.TriedAt
	} else if known := s.Probe.Target == HashTarget(s.Endpoint.EffectiveURL(s.Environment)); known {
		a.CheckedAt, a.NextCheckAt, a.CertificateEnds = s.Probe.CheckedAt, s.Probe.Due, s.Probe.CertificateEnds
	}
	if s.Missing != "" {
		a.Status, a.Cause, a.NextCheckAt = StatusUnlicensed, told.FindCause(string(s.Missing)), time.Time{}
		return a
	}
	if !s.Probing {
		a.NextCheckAt = time.Time{}
	}
	switch probed := s.Kind != partner.StateChange && !a.CheckedAt.IsZero(); {
	case !s.FailingSince.IsZero():
		a.Status, a.Since, a.Cause, a.Detail = StatusFailing, s.FailingSince, s.FailingCause, s.FailingDetail
		if probed && s.Probe.Reason.IsFailing() { // the probe's reason is more exact
			a.Cause, a.Detail = s.Probe.Reason.Cause(), s.Probe.Detail
		}
	case probed && s.Probe.Reason.IsFailing():
		a.Status, a.Since, a.Cause, a.Detail = StatusFailing, s.Probe.FailingSince, s.Probe.Reason.Cause(), s.Probe.Detail
	case probed && (s.Probe.Reason == NoTenant || s.Probe.Reason == Unreadable):
		a.Status, a.Cause, a.Detail = StatusUnchecked, s.Probe.Reason.Cause(), s.Probe.Detail
	case probed:
		a.Detail = s.Probe.Detail
	case a.CheckedAt.IsZero():
		a.Status, a.Cause = StatusUnchecked, uncheckedCause(&s)
	}
	return a
}

func uncheckedCause(s *Subject) told.Cause {
	if s.Kind != partner.StateChange && !s.Probing {
		return told.FindCause("unprobed")
	}
	return told.FindCause("untried")
}

func assessOff(s *Subject) (Assessment, bool) {
	e := &s.Endpoint
	a := Assessment{Status: StatusOff}
	switch {
	case !e.Enabled:
		a.Since = e.SwitchedAt
		switch {
		case e.OffReason != "":
			a.By, a.Cause = SwitchedOffByService, told.FindCause(string(e.OffReason))
		case !e.SwitchedAt.IsZero():
			a.By, a.Cause = SwitchedOffByCaller, told.FindCause("switched_off")
		default:
			a.Cause = told.FindCause("never_on")
		}
	case e.EffectiveURL(s.Environment) == "":
		a.Cause = told.FindCause("no_url")
	case s.Kind == partner.StateChange && s.Paused:
		a.Cause, a.By = told.FindCause("paused"), SwitchedOffByCaller
	default:
		return Assessment{}, false
	}
	return a, true
}
