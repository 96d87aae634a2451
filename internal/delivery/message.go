package delivery

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Message is one notification to one app: all that an attempt needs besides the app's settings.
type Message struct {
	ClientID partner.ClientID
	Change   tenant.Change
	// WebhookID is the Standard Webhooks id, the same on every attempt: the change's id, or a fresh one
	// for a status that is deposited again.
	WebhookID string
	// Sequence is what the receiver orders by: the change's, or for a status that is deposited again the
	// tenant's highest.
	Sequence int64
	// Superseded counts the older changes that this one replaced while it was pending.
	Superseded int64
	// Attempts counts the failed attempts so far, Steps those that took a step of the retry schedule.
	Attempts, Steps int
	// LastAttempt is when the last one failed, zero when none did.
	LastAttempt time.Time
	// FirstDeposited is since when the slot has had a pending notification.
	FirstDeposited time.Time
}

// Attempt is one HTTP request, as it is stored. Detail and Excerpt are for operators and admins alone.
type Attempt struct {
	At         time.Time        `json:"at"`
	ClientID   partner.ClientID `json:"client_id"`
	Tenant     tenant.ID        `json:"tenant"`
	ChangeID   string           `json:"change_id"`
	WebhookID  string           `json:"webhook_id"`
	ChangeType string           `json:"change_type"`
	Sequence   int64            `json:"sequence"`
	Number     int              `json:"attempt"`
	Superseded int64            `json:"superseded,omitempty"`
	Outcome    string           `json:"outcome"`
	Reason     string           `json:"reason"`
	Status     int              `json:"status,omitempty"`
	DurationMS int64            `json:"duration_ms"`
	Detail     string           `json:"detail,omitempty"`
	Excerpt    string           `json:"excerpt,omitempty"`
	// NextAttemptAt is when the notification is due again, zero when it is settled or waits for the
	// end of the cool-down.
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
}

// ErrBadPayload reports a stored change that this version cannot read.
var ErrBadPayload = errors.New("unreadable stored change")

// Entry is a pending notification as the mailbox stores it:
// "<seq>;<version>;<attempts>;<superseded>;<first deposited ms>;<change>". A status that is deposited
// again has "r<nonce>;" before its change. Once an attempt failed, attempts is
// "<attempts>/<steps>/<reason number>/<ms of the last>".
type Entry struct {
	Sequence, Version, Superseded, FirstDepositedMS int64
	Attempts, Steps                                 int
	LastReason                                      Reason
	LastAttemptMS                                   int64
	// Retold is the nonce of a status that is deposited again, empty for a change in its turn.
	Retold string
	Change string
}

// ParseEntry reads a stored entry.
func ParseEntry(s string) (Entry, error) {
	var e Entry
	rest := s
	for i := range 5 {
		f, r, ok := strings.Cut(rest, ";")
		if !ok || !e.setField(i, f) {
			return Entry{}, fmt.Errorf("%w: entry field %d", ErrBadPayload, i+1)
		}
		rest = r
	}
	if strings.HasPrefix(rest, "r") {
		nonce, r, ok := strings.Cut(rest[1:], ";")
		if !ok || nonce == "" {
			return Entry{}, fmt.Errorf("%w: entry's telling", ErrBadPayload)
		}
		e.Retold, rest = nonce, r
	}
	e.Change = rest
	return e, nil
}

func (e *Entry) setField(field int, s string) bool {
	if field == 2 {
		return e.setAttempts(s)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch field {
	case 0:
		e.Sequence = n
	case 1:
		e.Version = n
	case 3:
		e.Superseded = n
	case 4:
		e.FirstDepositedMS = n
	}
	return err == nil
}

func (e *Entry) setAttempts(s string) bool {
	if !strings.Contains(s, "/") {
		n, err := strconv.Atoi(s)
		e.Attempts = n
		return err == nil && n >= 0
	}
	parts := strings.Split(s, "/")
	var n [4]int64
	if len(parts) != len(n) {
		return false
	}
	for i, p := range parts {
		v, err := strconv.ParseInt(p, 10, 64)
		if err != nil || v < 0 || i < 3 && v > 1<<30 {
			return false
		}
		n[i] = v
	}
	e.Attempts, e.Steps, e.LastReason, e.LastAttemptMS = int(n[0]), int(n[1]), Reason(min(n[2], 255)), n[3]
	return true
}

// Message makes the notification out of an entry.
func (e Entry) Message(app partner.ClientID, t tenant.ID) (Message, error) {
	c, err := DecodeChange(e.Change, t, e.Sequence)
	if err != nil {
		return Message{}, err
	}
	m := Message{
		ClientID: app, Change: c, WebhookID: c.ID, Sequence: e.Sequence, Superseded: e.Superseded,
		Attempts: e.Attempts, Steps: e.Steps, FirstDeposited: time.UnixMilli(e.FirstDepositedMS).UTC(),
	}
	if e.LastAttemptMS > 0 {
		m.LastAttempt = time.UnixMilli(e.LastAttemptMS).UTC()
	}
	if e.Retold != "" {
		m.WebhookID = c.ID + "_" + e.Retold
	}
	return m, nil
}
