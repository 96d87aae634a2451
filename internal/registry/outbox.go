package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// sentKeep is how long a sent mail's id is remembered: longer than any task about it lives.
const sentKeep = 24 * time.Hour

// ClaimOutcome is what came of claiming a mail.
type ClaimOutcome int

// The closed set of outcomes, as outbox_claim.lua numbers them.
const (
	// ClaimMissing: there is no such mail; it was sent long ago, or its app is gone.
	ClaimMissing ClaimOutcome = iota
	// ClaimTaken: the caller may send it until the lease ends.
	ClaimTaken
	// ClaimSettled: it was sent or has failed for good.
	ClaimSettled
	// ClaimHeld: somebody else is sending it.
	ClaimHeld
	// ClaimEarly: it is not due yet, or an earlier mail must leave first.
	ClaimEarly
)

// MailClaim is the right to send one mail for a while.
type MailClaim struct {
	Outcome ClaimOutcome
	// Token names the claim when it is settled.
	Token string
	// Attempts counts this one and those before.
	Attempts int
	// Until is the end of the lease; for ClaimHeld and ClaimEarly when to come again.
	Until time.Time
	// Letter is set for ClaimTaken. Unreadable is set instead when this version cannot read it.
	Letter     incident.Letter
	Unreadable error
}

// ClaimMail claims a mail for as long as lease. After an error it may be claimed; the lease frees it.
func (s *IncidentStore) ClaimMail(ctx context.Context, app partner.ClientID, mailID string, lease time.Duration) (MailClaim, error) {
	token := s.nonce()
	v, err := s.claim.run(ctx, s.rdb, s.outbox(app), mailID, token, lease.Milliseconds()).Slice()
	if err != nil {
		return MailClaim{}, failure(err, "claim mail %s", mailID)
	}
	if len(v) != 4 {
		return MailClaim{}, fmt.Errorf("claim mail %s: %w", mailID, badAnswer(s.claim, v))
	}
	code, ok1 := v[0].(int64)
	attempts, ok2 := v[1].(int64)
	ms, ok3 := v[2].(int64)
	body, ok4 := v[3].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return MailClaim{}, fmt.Errorf("claim mail %s: %w", mailID, badAnswer(s.claim, v))
	}
	c := MailClaim{Outcome: ClaimOutcome(code), Token: token, Attempts: int(attempts), Until: fromMillis(ms)}
	if c.Outcome == ClaimTaken {
		c.Letter, c.Unreadable = incident.DecodeLetter(body)
	}
	return c, nil
}

// SettleOutcome is what came of settling a claim.
type SettleOutcome int

// The closed set of outcomes, as outbox_settle.lua numbers them.
const (
	// SettleMissing: there is no such mail any more.
	SettleMissing SettleOutcome = iota
	// SettleDone: written down.
	SettleDone
	// SettleLost: the claim had gone to another; nothing was written.
	SettleLost
)

// MailSent records that a mail server accepted the mail. It may be said late or twice.
func (s *IncidentStore) MailSent(ctx context.Context, app partner.ClientID, mailID, token string) (SettleOutcome, error) {
	return s.settleMail(ctx, app, mailID, token, "s", sentKeep, "")
}

// MailDeferred has the mail tried again after a delay.
func (s *IncidentStore) MailDeferred(
	ctx context.Context, app partner.ClientID, mailID, token string, delay time.Duration,
) (SettleOutcome, error) {
	return s.settleMail(ctx, app, mailID, token, "w", delay, "")
}

// MailFailed records that the mail will not be tried again, and why, redacted and in words.
func (s *IncidentStore) MailFailed(
	ctx context.Context, app partner.ClientID, mailID, token string, f MailFailure,
) (SettleOutcome, error) {
	f.Format = format
	b, err := json.Marshal(f)
	if err != nil {
		return SettleMissing, fmt.Errorf("encode failure of mail %s: %w", mailID, err)
	}
	return s.settleMail(ctx, app, mailID, token, "f", s.keep, string(b))
}

// MailFailure is what is kept of a mail that could not be delivered.
type MailFailure struct {
	Format int           `json:"v"`
	To     string        `json:"to"`
	Kind   incident.Kind `json:"kind"`
	At     time.Time     `json:"at"`
	// Code is the mail server's, 0 when it gave none.
	Code  int    `json:"code,omitempty"`
	Error string `json:"error"`
}

func (s *IncidentStore) settleMail(
	ctx context.Context, app partner.ClientID, mailID, token, verdict string, d time.Duration, body string,
) (SettleOutcome, error) {
	n, err := s.settle.run(ctx, s.rdb, s.outbox(app), mailID, token, verdict, d.Milliseconds(), body).Int()
	if err != nil {
		return SettleMissing, failure(err, "settle mail %s", mailID)
	}
	return SettleOutcome(n), nil
}

func (s *IncidentStore) outbox(app partner.ClientID) []string {
	return []string{s.keys.App(app, keys.AppOutbox)}
}

// OutboxDue lists up to limit mails of an app that can be sent now. It also forgets settled ones
// whose time is over, so it MUST be called now and then for every app.
func (s *IncidentStore) OutboxDue(ctx context.Context, app partner.ClientID, limit int) ([]string, error) {
	ids, err := s.due.run(ctx, s.rdb, s.outbox(app), pageSize(limit)).StringSlice()
	return ids, failure(err, "list due mails of %s", app)
}

// OutboxState is where a mail stands.
type OutboxState string

// The closed set of states, as stored.
const (
	MailWaiting     OutboxState = "w"
	MailSentState   OutboxState = "s"
	MailFailedState OutboxState = "f"
)

// OutboxEntry is a mail as the outbox holds it.
type OutboxEntry struct {
	ID    string
	State OutboxState
	// At is when it is tried next, or when a settled one is forgotten.
	At time.Time
	// ClaimedUntil is the end of the last claim's lease, zero for none.
	ClaimedUntil time.Time
	Attempts     int
	// Letter is set while it waits, Failure when it failed.
	Letter  *incident.Letter
	Failure *MailFailure
}

// Outbox lists all that an app's outbox holds, ordered by id. It is for people and checks.
func (s *IncidentStore) Outbox(ctx context.Context, app partner.ClientID) ([]OutboxEntry, error) {
	all, err := s.rdb.HGetAll(ctx, s.keys.App(app, keys.AppOutbox)).Result()
	if err != nil {
		return nil, failure(err, "read outbox of %s", app)
	}
	list := make([]OutboxEntry, 0, len(all))
	for id, text := range all {
		e, err := parseOutboxEntry(text)
		if err != nil {
			return nil, fmt.Errorf("mail %s: %w", id, err)
		}
		e.ID = id
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b OutboxEntry) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// parseOutboxEntry reads what the outbox scripts write, see outbox_claim.lua.
func parseOutboxEntry(text string) (OutboxEntry, error) {
	f := strings.SplitN(text, ";", 8)
	if len(f) != 8 || f[0] != "1" {
		return OutboxEntry{}, fmt.Errorf("%w: outbox entry", ErrUnreadable)
	}
	at, err1 := strconv.ParseInt(f[2], 10, 64)
	lease, err2 := strconv.ParseInt(f[3], 10, 64)
	attempts, err3 := strconv.Atoi(f[5])
	if err1 != nil || err2 != nil || err3 != nil {
		return OutboxEntry{}, fmt.Errorf("%w: outbox entry's numbers", ErrUnreadable)
	}
	e := OutboxEntry{State: OutboxState(f[1]), At: fromMillis(at), ClaimedUntil: fromMillis(lease), Attempts: attempts}
	switch e.State {
	case MailWaiting:
		l, err := incident.DecodeLetter(f[7])
		if err != nil {
			return OutboxEntry{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		e.Letter = &l
	case MailFailedState:
		e.Failure = &MailFailure{}
		if err := decodeJSON(f[7], e.Failure, &e.Failure.Format); err != nil {
			return OutboxEntry{}, err
		}
	case MailSentState:
	default:
		return OutboxEntry{}, fmt.Errorf("%w: outbox entry's state", ErrUnreadable)
	}
	return e, nil
}

func encodeEnded(e *incident.Ended) (string, error) {
	c := *e
	c.Format = format
	b, err := json.Marshal(&c)
	if err != nil {
		return "", fmt.Errorf("encode ended incident %s: %w", e.ID, err)
	}
	return string(b), nil
}
