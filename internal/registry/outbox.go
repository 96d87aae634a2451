package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

const (
	// sentKeep is how long a settled mail's id is kept: longer than any task about it exists.
	sentKeep = 24 * time.Hour
	// forgetAtOnce is how many expired ids of settled mails one call removes at most: more than it adds.
	forgetAtOnce = 20
	// outboxLook is about how many mails of an outbox one script examines.
	outboxLook = 100
)

// ClaimResult is the result of claiming a mail.
type ClaimResult int

// The closed set of results, as outbox_claim.lua numbers them.
const (
	// ClaimMissing: there is no such mail; it was sent long ago, or its app was deleted.
	ClaimMissing ClaimResult = iota
	// ClaimTaken: the caller may send the mail until the lease ends.
	ClaimTaken
	// ClaimSettled: the mail was sent or has failed permanently.
	ClaimSettled
	// ClaimHeld: another process is sending the mail.
	ClaimHeld
	// ClaimEarly: the mail is not due yet, or an earlier mail must leave first.
	ClaimEarly
)

// MailClaim is the right to handle one mail, or a recipient's queue of mails, for a while.
type MailClaim struct {
	// Result is ClaimMissing, too, if the queue is empty.
	Result ClaimResult
	// Token identifies the claim when it is settled.
	Token string
	// Attempts counts this attempt and those before; of a queue, its MailQueue counts them.
	Attempts int
	// Until is the end of the lease; for ClaimHeld and ClaimEarly, when to try again.
	Until time.Time
}

// ClaimMail claims a mail for the duration of lease. The mail is returned for ClaimTaken. After an error it may be claimed; it is
// free again when the lease ends.
func (s *IncidentStore) ClaimMail(ctx context.Context, app partner.ClientID, mailID string, lease time.Duration) (MailClaim, QueuedMail, error) {
	token := s.nonce()
	v, err := s.claim.run(ctx, s.rdb, s.outboxKeys(app), mailID, token, lease.Milliseconds()).Slice()
	if err != nil {
		return MailClaim{}, QueuedMail{}, wrapError(err, "claim mail %s", mailID)
	}
	if len(v) != 4 {
		return MailClaim{}, QueuedMail{}, fmt.Errorf("claim mail %s: %w", mailID, newAnswerError(s.claim, v))
	}
	code, ok1 := v[0].(int64)
	attempts, ok2 := v[1].(int64)
	ms, ok3 := v[2].(int64)
	body, ok4 := v[3].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return MailClaim{}, QueuedMail{}, fmt.Errorf("claim mail %s: %w", mailID, newAnswerError(s.claim, v))
	}
	c := MailClaim{Result: ClaimResult(code), Token: token, Attempts: int(attempts), Until: fromMillis(ms)}
	m := QueuedMail{ID: mailID}
	if c.Result == ClaimTaken {
		m.Mail, m.Unreadable = incident.DecodeMail(body)
	}
	return c, m, nil
}

// SettlementResult is the result of settling a claim.
type SettlementResult int

// The closed set of results, as outbox_settle.lua numbers them.
const (
	// SettleMissing: there is no such mail any more.
	SettleMissing SettlementResult = iota
	// SettleDone: the result was stored.
	SettleDone
	// SettleLost: another process has the claim; nothing was written.
	SettleLost
)

// MarkMailSent records that a mail server accepted the mail. It may be called late or twice.
func (s *IncidentStore) MarkMailSent(ctx context.Context, app partner.ClientID, mailID, token string) (SettlementResult, error) {
	return s.settleMail(ctx, app, mailID, token, "s", sentKeep)
}

// DeferMail schedules the mail for another attempt after a delay.
func (s *IncidentStore) DeferMail(
	ctx context.Context, app partner.ClientID, mailID, token string, delay time.Duration,
) (SettlementResult, error) {
	return s.settleMail(ctx, app, mailID, token, "w", delay)
}

// MarkMailFailed records that the mail will not be tried again. The caller logs the reason.
func (s *IncidentStore) MarkMailFailed(ctx context.Context, app partner.ClientID, mailID, token string) (SettlementResult, error) {
	return s.settleMail(ctx, app, mailID, token, "f", sentKeep)
}

func (s *IncidentStore) settleMail(
	ctx context.Context, app partner.ClientID, mailID, token, verdict string, d time.Duration,
) (SettlementResult, error) {
	n, err := s.settle.run(ctx, s.rdb, s.outboxKeys(app), mailID, token, verdict, d.Milliseconds(), forgetAtOnce).Int()
	if err != nil {
		return SettleMissing, wrapError(err, "settle mail %s", mailID)
	}
	return SettlementResult(n), nil
}

func (s *IncidentStore) outboxKeys(app partner.ClientID) []string {
	return []string{s.keys.App(app, keys.AppOutbox), s.keys.App(app, keys.AppSettled)}
}

// HasOutboxMails reports, for each app, whether its outbox holds mails; errors are at their app's index.
func (s *IncidentStore) HasOutboxMails(ctx context.Context, apps []partner.ClientID) ([]bool, []error) {
	out, errs := make([]bool, len(apps)), make([]error, len(apps))
	for start := 0; start < len(apps); start += pipelineMax {
		chunk := apps[start:min(start+pipelineMax, len(apps))]
		cmds := make([]*redis.IntCmd, len(chunk))
		// Each command holds its own error.
		_, _ = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, id := range chunk {
				cmds[i] = p.Exists(ctx, s.keys.App(id, keys.AppOutbox))
			}
			return nil
		})
		for i, id := range chunk {
			n, err := cmds[i].Result()
			out[start+i], errs[start+i] = n > 0, wrapError(err, "look for an outbox of %s", id)
		}
	}
	return out, errs
}

// OutboxPlace is a place in an app's outbox: its start if Cursor is empty.
type OutboxPlace struct {
	App    partner.ClientID
	Cursor string
}

// OutboxPage is the result of reading an outbox from a place on.
type OutboxPage struct {
	// Due are the mails that can be sent now. Waiting counts all that wait. Oldest is since when the most overdue one has been
	// due, zero for none.
	Due     []string
	Waiting int
	Oldest  time.Time
	// Next is where to continue, empty at the end.
	Next string
}

// ReadOutboxPages examines about outboxLook mails at each place, pipelined. It also moves settled mails that earlier versions
// left in the outbox, so it MUST be called regularly for every app that has one. Pages and errors are at their place's index.
func (s *IncidentStore) ReadOutboxPages(ctx context.Context, places []OutboxPlace) ([]OutboxPage, []error) {
	out, errs := make([]OutboxPage, len(places)), make([]error, len(places))
	calls := make([]call, len(places))
	for i, p := range places {
		cursor := p.Cursor
		if _, err := strconv.ParseUint(cursor, 10, 64); err != nil {
			cursor = "0" // not one of our cursors: from the start
		}
		calls[i] = call{keys: s.outboxKeys(p.App), args: []any{cursor, outboxLook}}
	}
	for i, cmd := range s.due.runMany(ctx, s.rdb, calls) {
		v, err := cmd.Slice()
		if err != nil {
			errs[i] = wrapError(err, "look into the outbox of %s", places[i].App)
			continue
		}
		var ok bool
		if out[i], ok = decodeOutboxPage(v); !ok {
			errs[i] = fmt.Errorf("look into the outbox of %s: %w", places[i].App, newAnswerError(s.due, v))
		}
	}
	return out, errs
}

func decodeOutboxPage(v []any) (p OutboxPage, ok bool) {
	if len(v) < 3 {
		return OutboxPage{}, false
	}
	next, ok1 := v[0].(string)
	waiting, ok2 := v[1].(int64)
	oldest, ok3 := v[2].(int64)
	p = OutboxPage{Waiting: int(waiting), Oldest: fromMillis(oldest), Next: next}
	if next == "0" {
		p.Next = ""
	}
	for _, id := range v[3:] {
		text, ok := id.(string)
		if !ok {
			return OutboxPage{}, false
		}
		p.Due = append(p.Due, text)
	}
	return p, ok1 && ok2 && ok3
}

// OutboxState is the state of a mail.
type OutboxState string

// The closed set of states, as stored. An outbox holds settled mails only if an earlier version left them there.
const (
	MailWaiting     OutboxState = "w"
	MailSentState   OutboxState = "s"
	MailFailedState OutboxState = "f"
)

// OutboxEntry is a mail as the outbox holds it.
type OutboxEntry struct {
	ID    string
	State OutboxState
	// At is when the mail is tried next, or when a settled one is removed.
	At time.Time
	// ClaimedUntil is the end of the last claim's lease, zero for none.
	ClaimedUntil time.Time
	Attempts     int
	// Mail is set while the mail waits.
	Mail *incident.Mail
}

// ListOutbox lists all mails in an app's outbox, ordered by id. It is for operators and checks.
func (s *IncidentStore) ListOutbox(ctx context.Context, app partner.ClientID) ([]OutboxEntry, error) {
	all, err := s.rdb.HGetAll(ctx, s.keys.App(app, keys.AppOutbox)).Result()
	if err != nil {
		return nil, wrapError(err, "read outbox of %s", app)
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

// parseOutboxEntry parses what the outbox scripts write, see outbox_claim.lua.
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
		l, err := incident.DecodeMail(f[7])
		if err != nil {
			return OutboxEntry{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		e.Mail = &l
	case MailSentState, MailFailedState:
	default:
		return OutboxEntry{}, fmt.Errorf("%w: outbox entry's state", ErrUnreadable)
	}
	return e, nil
}

func encodeEnded(e *incident.EndedIncident) (string, error) {
	c := *e
	c.Format = format
	b, err := json.Marshal(&c)
	if err != nil {
		return "", fmt.Errorf("encode ended incident %s: %w", e.ID, err)
	}
	return string(b), nil
}
