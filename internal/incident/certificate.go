package incident

import (
	"maps"
	"slices"
	"time"
)

// warningLeadTimes lists how long before a certificate's end a warning is sent.
func warningLeadTimes() []time.Duration {
	return []time.Duration{21 * 24 * time.Hour, 7 * 24 * time.Hour}
}

// shortLived divides a certificate's lifetime: no warning is sent before the last third. Otherwise every
// renewal of a certificate that is valid for a week would cause one.
const shortLived = 3

// warningStage counts the warnings that are due at a time.
func (c Certificate) warningStage(now time.Time) int {
	left, n := c.NotAfter.Sub(now), 0
	for _, ahead := range warningLeadTimes() {
		if c.NotBefore.Before(c.NotAfter) && !c.NotBefore.IsZero() {
			ahead = min(ahead, c.NotAfter.Sub(c.NotBefore)/shortLived)
		}
		if left <= ahead {
			n++
		}
	}
	return n
}

// warnOfCertificate adds a warning when one is due that was not sent yet. A certificate that has ended
// needs none: calls fail.
func (t *step) warnOfCertificate(c Certificate) {
	s := &t.s
	c.NotAfter = c.NotAfter.UTC().Truncate(time.Millisecond)
	stage := c.warningStage(t.now)
	if t.Paused || stage == 0 || !c.NotAfter.After(t.now) {
		return
	}
	i := slices.IndexFunc(s.Warned, func(w WarnedCertificate) bool { return w.NotAfter.Equal(c.NotAfter) })
	switch {
	case i >= 0 && s.Warned[i].Stage >= stage:
		return
	case i >= 0:
		s.Warned[i].Stage = stage
	case len(s.Warned) >= maxWarned:
		return
	default:
		s.Warned = append(s.Warned, WarnedCertificate{NotAfter: c.NotAfter, Stage: stage})
	}
	t.mails = append(t.mails, Mail{
		Kind: KindCertificate, Incident: NewWarningID(t.ClientID, t.Endpoint, c.NotAfter), Endpoint: t.Endpoint, N: stage,
		At: t.now, Since: t.now, CertificateEnds: c.NotAfter,
	})
}

// forgetEndedCertificates drops the certificates that have ended.
func (t *step) forgetEndedCertificates() {
	t.s.Warned = slices.DeleteFunc(t.s.Warned, func(w WarnedCertificate) bool { return !w.NotAfter.After(t.now) })
	if len(t.s.Warned) == 0 {
		t.s.Warned = nil
	}
}

func cloneWarned(ws []WarnedCertificate) []WarnedCertificate {
	out := slices.Clone(ws)
	for i := range out {
		out[i].Mailed = maps.Clone(out[i].Mailed)
	}
	return out
}
