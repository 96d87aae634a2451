package incident

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Kind says what a mail is about. It is a metric label. CONTRIBUTING.md says how to add one.
type Kind string

// The closed set of kinds.
const (
	KindOpened      Kind = "opened"
	KindReminder    Kind = "reminder"
	KindSwitchedOff Kind = "switched_off"
	KindRecovered   Kind = "recovered"
	// KindClosed says that a person ended the incident although the endpoint may still fail.
	KindClosed Kind = "closed"
	// KindCertificate warns that the endpoint's certificate ends soon. It belongs to no incident.
	KindCertificate Kind = "certificate"
	// KindConfirm is a confirmation: it asks an address that a partner set whether it wants the app's mail.
	KindConfirm Kind = "confirm"
)

// AllKinds lists the closed set.
func AllKinds() []Kind {
	return []Kind{KindOpened, KindReminder, KindSwitchedOff, KindRecovered, KindClosed, KindCertificate, KindConfirm}
}

// EndsIncident reports whether the mail says that its incident has ended. Only recipients of an earlier mail of the
// incident get it, and it has no advice.
func (k Kind) EndsIncident() bool { return k == KindRecovered || k == KindClosed }

// Mail is the mail of one transition to one recipient: the facts at the time of the decision, and all that composing it
// needs. The machine decides it without a recipient; the caller makes one of it for each recipient. Outboxes and mail
// queues store it.
type Mail struct {
	Recipient `json:"-"`
	// First and After are the first and the newest earlier transitions of the incident about which this
	// recipient got a mail, 0 when this is the first.
	First int `json:"-"`
	After int `json:"-"`

	Kind Kind `json:"kind"`
	// Incident is the incident's id; for KindCertificate and KindConfirm see NewWarningID and
	// NewConfirmationID.
	Incident string               `json:"incident"`
	Endpoint partner.EndpointKind `json:"endpoint"`
	// N is the transition's number, unique in the incident.
	N int `json:"n"`
	// At is when the transition was decided.
	At time.Time `json:"at"`
	// Since is when the failure began.
	Since time.Time `json:"since"`
	// EndedAt is when the endpoint became healthy, for KindRecovered.
	EndedAt time.Time `json:"ended_at,omitzero"`
	// Failure is the newest failure, nil when none was observed.
	Failure *PublicFailure `json:"failure,omitempty"`
	// Tenants are those whose notification is refused, while the endpoint as a whole answers.
	Tenants []tenant.ID `json:"tenants,omitempty"`
	// Backlog is what is pending now; for KindRecovered it is the largest backlog of the incident.
	Backlog Backlog `json:"backlog,omitzero"`
	Flaps   int     `json:"flaps,omitempty"`
	// Reopened and Previous are set for an incident that follows closely on another.
	Reopened int    `json:"reopened,omitempty"`
	Previous string `json:"previous,omitempty"`
	// OffReason says why it was switched off, for KindSwitchedOff, and for KindClosed while it is off.
	OffReason partner.OffReason `json:"off_reason,omitempty"`
	// NextTry is when the next attempt is made after the pause that the endpoint asked for, zero when
	// there is no such pause. For an integration endpoint it is the next probe, zero for none.
	NextTry time.Time `json:"next_try,omitzero"`
	// SwitchOffAt is when the endpoint is switched off if it still fails, zero for never.
	SwitchOffAt time.Time `json:"switch_off_at,omitzero"`
	// Reported is how many failed calls engines reported during the failure. Affected are the tenants
	// that they named, AffectedMore is set when there were more, AffectedCount is their number.
	Reported      int64       `json:"reported,omitempty"`
	Affected      []tenant.ID `json:"affected,omitempty"`
	AffectedMore  bool        `json:"affected_more,omitempty"`
	AffectedCount int64       `json:"affected_count,omitempty"`
	// CommonSince is when the common cause began, zero when there is none.
	CommonSince time.Time `json:"common_since,omitzero"`
	// CertificateEnds is when the certificate ends, for KindCertificate.
	CertificateEnds time.Time `json:"certificate_ends,omitzero"`
}

// PublicFailure is the part of a failure that a mail may show: no error text, and nothing out of the
// endpoint's answer. Mails that older versions stored hold such texts, which are not read.
type PublicFailure struct {
	Reason delivery.Reason
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// At is when the failure was recorded, OccurredAt when the call was made, if an engine reported that.
	At, OccurredAt time.Time
	Source         Source
}

// publicFailure leaves out what recipients of mail may not read.
func (f *Failure) publicFailure() *PublicFailure {
	return &PublicFailure{Reason: f.Reason, Status: f.Status, At: f.At, OccurredAt: f.OccurredAt, Source: f.Source}
}

// IsRefusal reports whether a working endpoint refused a notification, which then takes the next step of
// the retry schedule. Otherwise the endpoint failed.
func (k *PublicFailure) IsRefusal() bool { return isRefusal(k.Status) }

// MarshalJSON names the reason.
func (k PublicFailure) MarshalJSON() ([]byte, error) {
	return json.Marshal(Failure{Reason: k.Reason, Status: k.Status, At: k.At, OccurredAt: k.OccurredAt, Source: k.Source})
}

// UnmarshalJSON reads what MarshalJSON wrote, and the failures in mails of older versions.
func (k *PublicFailure) UnmarshalJSON(b []byte) error {
	var f Failure
	if err := f.UnmarshalJSON(b); err != nil {
		return err
	}
	*k = *f.publicFailure()
	return nil
}

// mailFormat is the version of the stored mail.
const mailFormat = 1

// Recipient is who gets a mail, and what the mail says about the app.
type Recipient struct {
	To          string              `json:"to"`
	ClientID    partner.ClientID    `json:"client_id"`
	AppName     string              `json:"app_name"`
	Environment partner.Environment `json:"environment"`
	// URL is the endpoint's, redacted.
	URL string `json:"url,omitempty"`
	// TimeZone is the contact's IANA name, empty for UTC.
	TimeZone string `json:"time_zone,omitempty"`
}

// storedMail is a Mail as it is stored: the facts stand apart.
type storedMail struct {
	Format int `json:"v"`
	Recipient
	First int   `json:"first,omitempty"`
	After int   `json:"after,omitempty"`
	Facts *Mail `json:"mail"`
}

// ID names the mail in the outbox.
func (m *Mail) ID() string { return MailID(m.Incident, m.N, RecipientKey(m.To)) }

// AfterID names the mail that must leave the outbox before this one is forwarded, empty for none.
func (m *Mail) AfterID() string {
	if m.After == 0 {
		return ""
	}
	return MailID(m.Incident, m.After, RecipientKey(m.To))
}

// Encode writes the mail as it is stored.
func (m *Mail) Encode() string {
	b, err := json.Marshal(&storedMail{mailFormat, m.Recipient, m.First, m.After, m})
	if err != nil { // a struct of strings, numbers and times before the year 10000 always marshals
		panic("incident: marshal mail: " + err.Error())
	}
	return string(b)
}

// DecodeMail reads what Encode wrote.
func DecodeMail(text string) (Mail, error) {
	var m Mail
	stored := storedMail{Facts: &m}
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return Mail{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if stored.Format != mailFormat {
		return Mail{}, fmt.Errorf("%w: format %d, this version reads %d", ErrUnreadable, stored.Format, mailFormat)
	}
	m.Recipient, m.First, m.After = stored.Recipient, stored.First, stored.After
	return m, nil
}

// Ending is how an incident ended.
type Ending string

// The closed set of endings.
const (
	EndRecovered   Ending = "recovered"
	EndClosed      Ending = "closed"
	EndSwitchedOff Ending = "switched_off"
	EndAbandoned   Ending = "abandoned"
	EndUnused      Ending = "uncalled"
)

// EndedIncident is an incident that has ended, as the history keeps it.
type EndedIncident struct {
	Format   int                  `json:"v"`
	ID       string               `json:"id"`
	ClientID partner.ClientID     `json:"client_id"`
	Endpoint partner.EndpointKind `json:"endpoint"`
	Since    time.Time            `json:"since"`
	OpenedAt time.Time            `json:"opened_at"`
	EndedAt  time.Time            `json:"ended_at"`
	Ending   Ending               `json:"ending"`
	// By names the token of the person who closed it, for EndClosed.
	By          string   `json:"by,omitempty"`
	Failure     *Failure `json:"failure,omitempty"`
	Flaps       int      `json:"flaps,omitempty"`
	Reopened    int      `json:"reopened,omitempty"`
	Peak        Backlog  `json:"peak,omitzero"`
	Transitions int      `json:"transitions"`
}
