package health_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/told"
)

const url = "https://partner.example/svc"

var t0 = time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)

// Every reason has words of its own, in the form the sentences around them need.
func TestReasons(t *testing.T) {
	t.Parallel()
	words, labels := map[string]bool{}, map[health.Reason]bool{}
	for _, r := range health.AllReasons() {
		w := r.Description()
		if w == "" || w == string(r) || words[w] || labels[r] || strings.HasSuffix(w, ".") || !r.IsKnown() {
			t.Errorf("%s: words %q", r, w)
		}
		words[w], labels[r] = true, true
		if none := r.DeliveryReason() == delivery.ReasonNone; none != (r == health.Healthy || r == health.NoTenant || r == health.Unreadable) {
			t.Errorf("%s is told as %s", r, r.DeliveryReason())
		}
		if r.IsImmediate() && !r.IsFailing() {
			t.Errorf("%s is told at once, but fails nothing", r)
		}
	}
	if len(words) != 41 {
		t.Errorf("%d reasons: is the list of the documents still whole?", len(words))
	}
	if odd := health.Reason("odd"); odd.IsKnown() || odd.Cause().String() != "unknown" {
		t.Errorf("an unknown reason: %q", odd.Description())
	}
}

func finding(r health.Reason) health.Finding {
	return health.Finding{Reason: r, Status: 200, Detail: "words", Excerpt: "piece"}
}

func TestStateFollowsFindings(t *testing.T) {
	t.Parallel()
	target := health.HashTarget(url)
	ends := t0.Add(30 * 24 * time.Hour)
	healthy := health.Finding{Reason: health.Healthy, Status: 200, CertificateEnds: ends}
	type step struct {
		f     health.Finding
		after time.Duration
		want  health.State
	}
	at := func(m int) time.Time { return t0.Add(time.Duration(m) * time.Minute) }
	bad := func(n int, since, checked int) health.State {
		return health.State{
			Target: target, Reason: health.WrongKey, Status: 200, Detail: "words", CheckedAt: at(checked), FailingSince: at(since), Failures: n,
			CertificateEnds: ends,
		}
	}
	s := health.State{}
	for i, st := range []step{
		{healthy, 0, health.State{Target: target, Reason: health.Healthy, Status: 200, CheckedAt: at(0), CertificateEnds: ends}},
		{finding(health.WrongKey), 1, bad(1, 1, 1)},
		{finding(health.WrongKey), 2, bad(2, 1, 2)},
		{finding(health.OwnFault), 3, func() health.State { b := bad(2, 1, 2); b.OwnSince = at(3); return b }()},
		{finding(health.OwnFault), 4, func() health.State { b := bad(2, 1, 2); b.OwnSince = at(3); return b }()},
		{finding(health.WrongKey), 5, bad(3, 1, 5)},
		{finding(health.NoTenant), 6, health.State{
			Target: target, Reason: health.NoTenant, Status: 200, Detail: "words", CheckedAt: at(6), CertificateEnds: ends,
		}},
	} {
		s = s.AddFinding(st.f, target, t0.Add(st.after*time.Minute))
		if d := cmp.Diff(st.want, s); d != "" {
			t.Fatalf("step %d (-want +got):\n%s", i, d)
		}
		back, err := health.DecodeState(s.Encode())
		back.Format = 0
		if d := cmp.Diff(s, back); err != nil || d != "" {
			t.Fatalf("step %d does not survive storing: %v\n%s", i, err, d)
		}
	}
	other := s.AddFinding(finding(health.OwnFault), health.HashTarget(url+"2"), at(9))
	if d := cmp.Diff(health.State{Target: health.HashTarget(url + "2"), OwnSince: at(9)}, other); d != "" {
		t.Errorf("what is known of one URL is told of another:\n%s", d)
	}
}

func TestBlames(t *testing.T) {
	t.Parallel()
	s := health.State{OwnSince: t0}
	never := health.State{}
	switch {
	case s.CountsOwnFault(t0.Add(5*time.Minute-1), true), s.CountsOwnFault(t0.Add(time.Hour), false), never.CountsOwnFault(t0, true):
		t.Error("blamed too early, while nobody answers, or without a fault")
	case !s.CountsOwnFault(t0.Add(5*time.Minute), true):
		t.Error("never blamed")
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"x", "[]", `{"v":2}`, `{}`, `{"v":"1"}`} {
		if _, err := health.DecodeState(text); !errors.Is(err, health.ErrUnreadable) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if s, err := health.DecodeState(""); err != nil || !cmp.Equal(s, health.State{}) {
		t.Errorf("nothing stored: %+v, %v", s, err)
	}
}

func TestAssess(t *testing.T) {
	t.Parallel()
	target := health.HashTarget(url)
	ends, due := t0.Add(time.Hour), t0.Add(time.Minute)
	on := func(k partner.EndpointKind, change func(*health.Subject)) health.Subject {
		s := health.Subject{
			Kind: k, Environment: partner.Online, Probing: true, Endpoint: partner.Endpoint{URL: url, Enabled: true, SwitchedAt: t0.Add(-time.Hour)},
		}
		if change != nil {
			change(&s)
		}
		return s
	}
	probed := func(r health.Reason) health.State {
		s := health.State{Target: target, Reason: r, Detail: "as probed", CheckedAt: t0, CertificateEnds: ends, Due: due}
		if r.IsFailing() {
			s.FailingSince = t0.Add(-time.Minute)
		}
		return s
	}
	for name, tc := range map[string]struct {
		s    health.Subject
		want health.Assessment
	}{
		"NeverSwitched": {health.Subject{Kind: partner.ERPSync}, health.Assessment{Status: health.StatusOff, Cause: told.FindCause("never_on")}},
		"OffByPeople": {
			health.Subject{Endpoint: partner.Endpoint{URL: url, SwitchedAt: t0}, FailingSince: t0},
			health.Assessment{Status: health.StatusOff, Since: t0, By: health.SwitchedOffByCaller, Cause: told.FindCause("switched_off")},
		},
		"OffByService": {
			health.Subject{Endpoint: partner.Endpoint{URL: url, SwitchedAt: t0, OffReason: partner.OffFailing}},
			health.Assessment{Status: health.StatusOff, Since: t0, Cause: told.FindCause("failing"), By: health.SwitchedOffByService},
		},
		"OffGone": {
			health.Subject{Endpoint: partner.Endpoint{URL: url, SwitchedAt: t0, OffReason: partner.OffGone}},
			health.Assessment{Status: health.StatusOff, Since: t0, Cause: told.FindCause("gone"), By: health.SwitchedOffByService},
		},
		"NoURL": {
			on(partner.ERPSync, func(s *health.Subject) { s.Endpoint.URL = "" }),
			health.Assessment{Status: health.StatusOff, Cause: told.FindCause("no_url")},
		},
		"Paused": {
			on(partner.StateChange, func(s *health.Subject) { s.Paused = true }),
			health.Assessment{Status: health.StatusOff, Cause: told.FindCause("paused"), By: health.SwitchedOffByCaller},
		},
		"PausedHoldsNoProbes": {
			on(partner.ERPSync, func(s *health.Subject) { s.Paused, s.Probe = true, probed(health.Healthy) }),
			health.Assessment{Status: health.StatusHealthy, Detail: "as probed", CheckedAt: t0, NextCheckAt: due, CertificateEnds: ends},
		},
		"Unlicensed": {
			on(partner.Mirroring, func(s *health.Subject) { s.Missing, s.Probe = partner.DatabaseMirroring, probed(health.WrongKey) }),
			health.Assessment{
				Status: health.StatusUnlicensed, Cause: told.FindCause("database_mirroring"), CheckedAt: t0, CertificateEnds: ends,
			},
		},
		"NeverNotified": {on(partner.StateChange, nil), health.Assessment{Status: health.StatusUnchecked, Cause: told.FindCause("untried")}},
		"Notified": {
			on(partner.StateChange, func(s *health.Subject) { s.TriedAt = t0 }),
			health.Assessment{Status: health.StatusHealthy, CheckedAt: t0},
		},
		"NotificationsFail": {
			on(partner.StateChange, func(s *health.Subject) {
				s.TriedAt, s.FailingSince, s.FailingCause, s.FailingDetail = t0, t0.Add(-time.Minute), told.FindCause("refused"), "d"
			}),
			health.Assessment{Status: health.StatusFailing, Since: t0.Add(-time.Minute), Cause: told.FindCause("refused"), Detail: "d", CheckedAt: t0},
		},
		"NeverProbed": {on(partner.ERPSync, nil), health.Assessment{Status: health.StatusUnchecked, Cause: told.FindCause("untried")}},
		"ProbedElsewhere": {
			on(partner.ERPSync, func(s *health.Subject) { s.Probe = probed(health.Refused); s.Probe.Target = "x" }),
			health.Assessment{Status: health.StatusUnchecked, Cause: told.FindCause("untried")},
		},
		"ProbesAreOff": {
			on(partner.ERPSync, func(s *health.Subject) { s.Probing = false }),
			health.Assessment{Status: health.StatusUnchecked, Cause: told.FindCause("unprobed")},
		},
		"NobodyApproved": {
			on(partner.Mirroring, func(s *health.Subject) { s.Probe = probed(health.NoTenant) }),
			health.Assessment{Status: health.StatusUnchecked, Cause: told.FindCause("no_tenant"), Detail: "as probed", CheckedAt: t0, NextCheckAt: due, CertificateEnds: ends},
		},
		"ProbeFails": {
			on(partner.Mirroring, func(s *health.Subject) { s.Probe = probed(health.WrongKey) }),
			health.Assessment{
				Status: health.StatusFailing, Since: t0.Add(-time.Minute), Cause: told.FindCause("wrong_key"), Detail: "as probed", CheckedAt: t0, NextCheckAt: due, CertificateEnds: ends,
			},
		},
		"ProbeKnowsMore": {
			on(partner.Mirroring, func(s *health.Subject) {
				s.Probe, s.FailingSince, s.FailingCause = probed(health.StaleMinute), t0.Add(-time.Hour), told.FindCause("client_error")
			}),
			health.Assessment{
				Status: health.StatusFailing, Since: t0.Add(-time.Hour), Cause: told.FindCause("stale_minute"), Detail: "as probed", CheckedAt: t0, NextCheckAt: due, CertificateEnds: ends,
			},
		},
		"EnginesReport": {
			on(partner.ERPSync, func(s *health.Subject) {
				s.Probe, s.FailingSince, s.FailingCause, s.FailingDetail = probed(health.Healthy), t0, told.FindCause("server_error"), "reported"
			}),
			health.Assessment{
				Status: health.StatusFailing, Since: t0, Cause: told.FindCause("server_error"), Detail: "reported", CheckedAt: t0, NextCheckAt: due, CertificateEnds: ends,
			},
		},
	} {
		if d := cmp.Diff(tc.want, health.Assess(tc.s)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
