package incident

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
)

const (
	idPrefix           = "inc_"
	warningPrefix      = "crt_"
	confirmationPrefix = "cnf_"
)

// endpointLetters stand for the endpoints in an incident's id, in the order of their kinds.
const endpointLetters = "seqm"

// ErrInvalidID reports a string that no incident can have as its id.
var ErrInvalidID = errors.New("invalid incident id")

// NewID is the id of an endpoint's incident that opened at a time, in milliseconds. The id holds app and
// endpoint, so that no index is needed to find the incident.
func NewID(app partner.ClientID, k partner.EndpointKind, opened time.Time) string {
	return idPrefix + formatID(app, k, opened)
}

// NewWarningID names the warnings about a certificate of an endpoint. The same certificate has the same
// id, so a warning that is decided twice is the same mail.
func NewWarningID(app partner.ClientID, k partner.EndpointKind, ends time.Time) string {
	return warningPrefix + formatID(app, k, ends)
}

// NewConfirmationID names the confirmation that was decided at a time for an app.
func NewConfirmationID(app partner.ClientID, asked time.Time) string {
	return confirmationPrefix + formatID(app, partner.StateChange, asked)
}

func formatID(app partner.ClientID, k partner.EndpointKind, at time.Time) string {
	return string(app) + "_" + endpointLetters[k:k+1] + strconv.FormatInt(at.UnixMilli(), 36)
}

// ParseID reads app, endpoint and opening time out of an incident's id.
func ParseID(s string) (partner.ClientID, partner.EndpointKind, time.Time, error) {
	rest, ok := strings.CutPrefix(s, idPrefix)
	i := strings.LastIndexByte(rest, '_')
	if !ok || i < 0 || len(rest) < i+3 {
		return "", 0, time.Time{}, ErrInvalidID
	}
	app, err := partner.ParseClientID(rest[:i])
	if err != nil {
		return "", 0, time.Time{}, ErrInvalidID
	}
	k := strings.IndexByte(endpointLetters, rest[i+1])
	digits := rest[i+2:]
	ms, err := strconv.ParseInt(digits, 36, 64)
	if k < 0 || err != nil || ms <= 0 || strconv.FormatInt(ms, 36) != digits {
		return "", 0, time.Time{}, ErrInvalidID
	}
	return app, partner.EndpointKind(k), time.UnixMilli(ms).UTC(), nil
}

// RecipientKey stands for a mail address in ids. Case makes no difference.
func RecipientKey(address string) string { return partner.HashAddress(address) }

// confirmationQueuePrefix distinguishes the mail queues of confirmations from recipients' own.
const confirmationQueuePrefix = "ask-"

// ConfirmationQueue names the mail queue of confirmations to an address, the same for every spelling of it.
// It is separate from the recipient's own, so that confirmations use up no space, turn or daily cap of
// other mails.
func ConfirmationQueue(address string) string {
	return confirmationQueuePrefix + partner.ConfirmationKey(address)
}

// IsConfirmationQueue reports whether a mail queue is for confirmations.
func IsConfirmationQueue(name string) bool { return strings.HasPrefix(name, confirmationQueuePrefix) }

// MailQueueOf names the mail queue that a mail belongs to.
func MailQueueOf(m *Mail) string {
	if m.Kind == KindConfirm {
		return ConfirmationQueue(m.To)
	}
	return RecipientKey(m.To)
}

// MailID names the mail about transition n of an incident to one recipient. A transition that is decided
// again has the same id.
func MailID(incident string, n int, recipientKey string) string {
	return incident + "." + strconv.Itoa(n) + "." + recipientKey
}
