package mailer

import (
	"fmt"
	"net/http"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Sample is an example mail, about an app that does not exist.
type Sample struct {
	// Name is valid as a file name.
	Name  string
	mails []incident.Mail
}

// Kind is the mail's kind.
func (s *Sample) Kind() incident.Kind {
	if len(s.mails) > 1 {
		return KindDigest
	}
	return s.mails[0].Kind
}

// Compose composes the message.
func (s *Sample) Compose(c *Composer) (*Message, error) {
	if len(s.mails) == 1 {
		return c.Compose(&s.mails[0])
	}
	ls := make([]*incident.Mail, len(s.mails))
	for i := range ls {
		ls[i] = &s.mails[i]
	}
	return c.ComposeDigest(ls, s.mails[0].At)
}

// SampleOptions say to whom samples are addressed.
type SampleOptions struct {
	To          string
	Environment partner.Environment
	// TimeZone is the contact's, empty for UTC.
	TimeZone string
}

// sampler makes samples about failures that began at one time.
type sampler struct {
	SampleOptions
	since time.Time
}

// MakeSamples returns a mail of every kind, for every reason, and for the other facts that change a mail's text.
// The same options give the same samples.
func MakeSamples(o SampleOptions) []Sample {
	s := &sampler{SampleOptions: o, since: time.Date(2026, time.November, 20, 20, 3, 0, 0, time.UTC)}
	out := s.openingSamples()
	out = append(out, s.laterSamples()...)
	return append(out, s.otherSamples()...)
}

// openingSamples are the mails about the opening of an incident, for each reason.
func (s *sampler) openingSamples() []Sample {
	var out []Sample
	for _, k := range []partner.EndpointKind{partner.StateChange, partner.ERPSync} {
		for _, r := range delivery.AllReasons() {
			switch {
			case r == delivery.ReasonNone, r == delivery.ReasonOwnFault: // no mail is sent about them
			case k == partner.StateChange && (r == delivery.ReasonGone || r == delivery.ReasonWrongKey):
				// The first switches the endpoint off at once, the second is found by probes only.
			default:
				out = append(out, Sample{"opened-" + k.String() + "-" + r.String(), []incident.Mail{s.openedMail(k, r)}})
			}
		}
	}
	return append(out, Sample{"opened-mirroring-wrong_key", []incident.Mail{s.openedMail(partner.Mirroring, delivery.ReasonWrongKey)}},
		Sample{"opened-quote_connector-bad_answer", []incident.Mail{s.openedMail(partner.QuoteConnector, delivery.ReasonBadAnswer)}})
}

// openedMail is the mail about an endpoint that fails for a reason.
func (s *sampler) openedMail(k partner.EndpointKind, r delivery.Reason) incident.Mail {
	const app partner.ClientID = "3f1d0a77c2b94e0f8a6d5c4b3a291807"
	url := "https://partner.example/lamplighter"
	if k != partner.StateChange {
		url = "https://partner.example/services/" + k.String() + ".svc"
	}
	f := &incident.PublicFailure{Reason: r, At: s.since.Add(290 * time.Second), Status: sampleStatus(r)}
	m := incident.Mail{
		Recipient: incident.Recipient{
			To: s.To, ClientID: app, AppName: "Awesome App", Environment: s.Environment, URL: url, TimeZone: s.TimeZone,
		},
		Kind: incident.KindOpened, Incident: incident.NewID(app, k, s.since), Endpoint: k, N: 1, At: s.since.Add(5 * time.Minute), Since: s.since,
		Failure: f, SwitchOffAt: s.since.Add(120 * time.Hour),
	}
	if k == partner.StateChange {
		m.Backlog = incident.Backlog{Notifications: 212, Tenants: 200, Superseded: 12}
	} else {
		m.NextTry = s.since.Add(7 * time.Minute)
	}
	return m
}

func sampleStatus(r delivery.Reason) int {
	switch r {
	case delivery.ReasonRedirect:
		return http.StatusFound
	case delivery.ReasonAuthError:
		return http.StatusUnauthorized
	case delivery.ReasonClientError:
		return http.StatusNotFound
	case delivery.ReasonRateLimited:
		return http.StatusTooManyRequests
	case delivery.ReasonServerError:
		return http.StatusServiceUnavailable
	case delivery.ReasonGone:
		return http.StatusGone
	case delivery.ReasonBadAnswer:
		return http.StatusOK
	default:
		return 0
	}
}

// laterSamples are the mails about incidents after their opening, and about special openings.
func (s *sampler) laterSamples() []Sample {
	var out []Sample
	add := func(name string, k partner.EndpointKind, r delivery.Reason, alter func(l *incident.Mail)) {
		l := s.openedMail(k, r)
		alter(&l)
		out = append(out, Sample{name, []incident.Mail{l}})
	}
	const push = partner.StateChange
	add("opened-again", push, delivery.ReasonServerError, func(l *incident.Mail) {
		l.Reopened, l.Previous = 1, incident.NewID(l.ClientID, push, s.since.Add(-time.Hour))
	})
	add("opened-tenants_refused", push, delivery.ReasonClientError, func(l *incident.Mail) {
		l.Tenants, l.SwitchOffAt = []tenant.ID{"Cust10001", "Cust10002"}, time.Time{}
		l.Failure.Status = http.StatusUnprocessableEntity
		l.Backlog = incident.Backlog{Notifications: 2, Tenants: 2}
	})
	add("opened-tenants_failing", push, delivery.ReasonServerError, func(l *incident.Mail) {
		l.Tenants, l.SwitchOffAt, l.NextTry = []tenant.ID{"Cust10001"}, time.Time{}, time.Time{}
		l.Backlog = incident.Backlog{Notifications: 1, Tenants: 1}
	})
	add("opened-together", push, delivery.ReasonTimeout, func(l *incident.Mail) {
		l.At, l.CommonSince = s.since.Add(30*time.Minute), s.since
	})
	add("opened-long_pause", push, delivery.ReasonRateLimited, func(l *incident.Mail) { l.NextTry = s.since.Add(time.Hour) })
	add("opened-mirroring-evening", partner.Mirroring, delivery.ReasonTimeout, func(l *incident.Mail) { l.NextTry = s.since.Add(9 * time.Hour) })
	add("opened-reported", partner.ERPSync, delivery.ReasonServerError, func(l *incident.Mail) {
		l.Failure.Source = incident.SourceReport
		l.Reported, l.Affected, l.AffectedMore, l.AffectedCount = 1200, []tenant.ID{"Cust10001", "Cust10002"}, true, 60
	})
	later := func(l *incident.Mail, k incident.Kind, n int, after time.Duration) {
		l.Kind, l.N, l.At, l.First, l.After = k, n, s.since.Add(after), 1, n-1
	}
	add("reminder", push, delivery.ReasonServerError, func(l *incident.Mail) { later(l, incident.KindReminder, 2, 24*time.Hour) })
	add("switched_off-failing", push, delivery.ReasonServerError, func(l *incident.Mail) {
		later(l, incident.KindSwitchedOff, 4, 120*time.Hour)
		l.OffReason, l.SwitchOffAt = partner.OffFailing, time.Time{}
	})
	add("switched_off-gone", push, delivery.ReasonGone, func(l *incident.Mail) {
		l.Kind, l.OffReason, l.SwitchOffAt = incident.KindSwitchedOff, partner.OffGone, time.Time{}
	})
	recovered := func(l *incident.Mail) {
		later(l, incident.KindRecovered, 2, 84*time.Minute)
		l.EndedAt, l.Flaps, l.SwitchOffAt = s.since.Add(83*time.Minute), 1, time.Time{}
	}
	add("recovered", push, delivery.ReasonServerError, recovered)
	add("recovered-mirroring", partner.Mirroring, delivery.ReasonTLS, recovered)
	add("closed", push, delivery.ReasonServerError, func(l *incident.Mail) {
		later(l, incident.KindClosed, 2, 84*time.Minute)
		l.SwitchOffAt = time.Time{}
	})
	return out
}

// otherSamples are the mails that belong to no incident, and the digest.
func (s *sampler) otherSamples() []Sample {
	to := s.openedMail(partner.Mirroring, delivery.ReasonTLS).Recipient
	ends := s.since.Add(21 * 24 * time.Hour)
	certificate := incident.Mail{
		Recipient: to, Kind: incident.KindCertificate, Incident: incident.NewWarningID(to.ClientID, partner.Mirroring, ends),
		Endpoint: partner.Mirroring, N: 1, At: s.since, Since: s.since, CertificateEnds: ends,
	}
	to.URL = ""
	confirm := incident.Mail{
		Recipient: to, Kind: incident.KindConfirm, Incident: incident.NewConfirmationID(to.ClientID, s.since), N: 1, At: s.since, Since: s.since,
	}
	return []Sample{{"certificate", []incident.Mail{certificate}}, {"confirm", []incident.Mail{confirm}}, {"digest", s.digestMails()}}
}

// digestMails are mails of six apps that failed together.
func (s *sampler) digestMails() []incident.Mail {
	reasons := []delivery.Reason{delivery.ReasonServerError, delivery.ReasonServerError, delivery.ReasonServerError, delivery.ReasonTimeout, delivery.ReasonServerError, delivery.ReasonServerError}
	names := []string{"Awesome App", "Invoice Bridge", "Order Sync", "Map View", "Quote Builder", "Mail Merge"}
	ls := make([]incident.Mail, len(names))
	for i, name := range names {
		l := s.openedMail(partner.StateChange, reasons[i])
		l.AppName, l.ClientID = name, partner.ClientID(fmt.Sprintf("app-%d", i+1))
		l.Incident = incident.NewID(l.ClientID, partner.StateChange, s.since)
		l.Backlog = incident.Backlog{Notifications: int64(40 + 7*i), Tenants: int64(40 + 6*i)}
		ls[i] = l
	}
	off, well := &ls[4], &ls[5]
	off.Kind, off.N, off.OffReason = incident.KindSwitchedOff, 4, partner.OffFailing
	well.Kind, well.N, well.EndedAt = incident.KindRecovered, 2, s.since.Add(4*time.Minute)
	return ls
}
