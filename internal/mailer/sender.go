package mailer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// Outbox keeps the mails that must be sent; *registry.IncidentStore is one.
type Outbox interface {
	ClaimMail(ctx context.Context, app partner.ClientID, mailID string, lease time.Duration) (registry.MailClaim, registry.QueuedMail, error)
	MarkMailSent(ctx context.Context, app partner.ClientID, mailID, token string) (registry.SettlementResult, error)
	DeferMail(ctx context.Context, app partner.ClientID, mailID, token string, delay time.Duration) (registry.SettlementResult, error)
	MarkMailFailed(ctx context.Context, app partner.ClientID, mailID, token string) (registry.SettlementResult, error)
}

// Transport hands a mail to a server; *SMTP is one. After an error that is no *SendError, or one that is not
// permanent, the mail is tried again.
type Transport interface {
	Send(ctx context.Context, m *Message) error
}

const (
	// claimLease is longer than any attempt to send. The claims of a process that died are free after it.
	// A mail that the server had accepted is then sent again.
	claimLease = 2 * time.Minute
	// sendWithin bounds one attempt, whatever the transport's own limit, so that it ends before its lease.
	sendWithin = time.Minute
	// settleWithin bounds the writing of an attempt's result, also while the process stops.
	settleWithin = 5 * time.Second
	// giveUpAfter is how long after its decision a mail is tried.
	giveUpAfter = 5 * 24 * time.Hour
	// errorMax bounds a server's answer in the log, in characters.
	errorMax = 300
	// listedMax bounds the mails that a log line about a digest names.
	listedMax = 20
)

// backoff is the wait after each failed attempt in a row; its last step repeats.
var backoff = [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour}

// RetryDelay is how long a mail queue waits after the nth failed attempt in a row (1 or more).
func RetryDelay(n int) time.Duration { return backoff[min(max(n, 1), len(backoff))-1] }

// Options of a Sender.
type Options struct {
	Outbox     Outbox
	MailQueues MailQueues
	// Suppressions may be nil: then no recipient counts as unsubscribed. Bounces may be nil: then bounces
	// are only logged.
	Suppressions SuppressionChecker
	Bounces      BounceMarker
	// Waker may be nil: then the caller of FindDueQueues must call SendQueued, and never WakeRecipient.
	Waker     Waker
	Transport Transport
	Composer  *Composer
	Policy    Policy
	Metrics   *Metrics
	Log       *slog.Logger
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Sender moves mails from the apps' outboxes to the recipients' mail queues, and sends them from there. It is
// safe for concurrent use, also by several processes.
type Sender struct{ opts Options }

// NewSender returns a Sender.
func NewSender(o Options) *Sender {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sender{opts: o}
}

// ForwardMail moves one mail from an app's outbox to its recipient's mail queue, from which SendQueued sends it.
// It does nothing if the mail is claimed by another process, settled or not due. An error means that the outbox
// or the queue could not be read or written. The task may be run again, and the outbox lists the mail as due after
// the lease of its claim.
func (s *Sender) ForwardMail(ctx context.Context, app partner.ClientID, mailID string) error {
	claim, m, err := s.opts.Outbox.ClaimMail(ctx, app, mailID, claimLease)
	if err != nil {
		return fmt.Errorf("forward mail: %w", err)
	}
	if claim.Result != registry.ClaimTaken {
		s.opts.Log.DebugContext(ctx, "mail not claimed", "app", string(app), "mail", mailID, "outcome", int(claim.Result))
		return nil
	}
	sctx, cancel := settleContext(ctx)
	defer cancel()
	if m.Unreadable != nil {
		s.recordResult(ctx, []registry.QueuedMail{m}, false, ResultUnreadable, &SendError{Err: m.Unreadable}, 0, s.opts.Now())
		_, err := s.opts.Outbox.MarkMailFailed(sctx, app, mailID, claim.Token)
		return wrapSettleError(err, mailID)
	}
	recipient := incident.MailQueueOf(&m.Mail)
	out, due, err := s.opts.MailQueues.EnqueueMail(sctx, recipient, mailID, &m.Mail, s.opts.Policy.GatherFor)
	if err != nil {
		return fmt.Errorf("forward mail %s: %w", mailID, err)
	}
	if out == registry.PutFull && m.Mail.Kind == incident.KindConfirm {
		s.recordResult(ctx, []registry.QueuedMail{m}, false, ResultDropped, nil, 0, s.opts.Now())
		_, err := s.opts.Outbox.MarkMailFailed(sctx, app, mailID, claim.Token)
		return wrapSettleError(err, mailID)
	}
	if out == registry.PutFull {
		s.opts.Log.WarnContext(ctx, "recipient's mail queue is full; the mail stays in the outbox", "app", string(app), "mail", mailID)
		_, err := s.opts.Outbox.DeferMail(sctx, app, mailID, claim.Token, fullWait)
		return wrapSettleError(err, mailID)
	}
	if _, err := s.opts.Outbox.MarkMailSent(sctx, app, mailID, claim.Token); err != nil {
		return wrapSettleError(err, mailID)
	}
	return s.wakeAt(sctx, recipient, due)
}

// wakeAt wakes the mailer when a mail queue is due. The mails of a queue share one wake-up.
func (s *Sender) wakeAt(ctx context.Context, recipient string, due time.Time) error {
	if s.opts.Waker == nil {
		return nil
	}
	delay := max(time.Until(due), 0)
	if err := s.opts.Waker.EnqueueSendMail(ctx, recipient, due.UnixMilli(), delay); err != nil {
		return fmt.Errorf("wake the mailer: %w", err)
	}
	return nil
}

func asSendError(err error) *SendError {
	if e, ok := errors.AsType[*SendError](err); ok {
		return e
	}
	return &SendError{Err: err}
}

// settleContext outlives the end of ctx, because the result of an attempt must be written also while the process
// stops.
func settleContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
}

func wrapSettleError(err error, mailID string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("settle mail %s: %w", mailID, err)
}

// recordResult counts a result and writes its one log line, without the recipient's address.
func (s *Sender) recordResult(ctx context.Context, ls []registry.QueuedMail, digest bool, r Result, cause *SendError, delay time.Duration, began time.Time) {
	m := &ls[0].Mail
	kind := m.Kind
	attrs := []slog.Attr{slog.String("outcome", string(r)), slog.Int64("duration_ms", s.opts.Now().Sub(began).Milliseconds())}
	if digest || len(ls) > 1 {
		if digest {
			kind = KindDigest
		}
		attrs = append(attrs, slog.Int("letters", len(ls)), slog.Any("mails", mailIDs(ls[:min(len(ls), listedMax)])))
	} else {
		attrs = append(attrs, slog.String("app", string(ls[0].Mail.ClientID)), slog.String("endpoint", m.Endpoint.String()), slog.String("mail", ls[0].ID))
	}
	attrs = append(attrs, slog.String("kind", string(kind)))
	s.opts.Metrics.countMail(kind, r)
	level := slog.LevelInfo
	if cause != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Int("status", cause.Code), slog.String("err", redactAddress(cause, ls[0].Mail.To)))
	}
	if delay > 0 {
		attrs = append(attrs, slog.Time("next_attempt_at", s.opts.Now().Add(delay).UTC()))
	}
	s.opts.Log.LogAttrs(ctx, level, "mail tried", attrs...)
}

// redactAddress returns the error's text with the recipient's address replaced by its key.
func redactAddress(cause *SendError, to string) string {
	text := secret.MakeExcerpt([]byte(cause.Error()), errorMax)
	return replaceFold(text, to, incident.RecipientKey(to))
}

func replaceFold(s, old, by string) string {
	if old == "" {
		return s
	}
	return regexp.MustCompile(`(?i)`+regexp.QuoteMeta(old)).ReplaceAllLiteralString(s, by)
}
