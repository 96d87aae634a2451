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
	ClaimMail(ctx context.Context, app partner.ClientID, mailID string, lease time.Duration) (registry.MailClaim, error)
	MailSent(ctx context.Context, app partner.ClientID, mailID, token string) (registry.SettleOutcome, error)
	MailDeferred(ctx context.Context, app partner.ClientID, mailID, token string, delay time.Duration) (registry.SettleOutcome, error)
	MailFailed(ctx context.Context, app partner.ClientID, mailID, token string, f registry.MailFailure) (registry.SettleOutcome, error)
}

// Transport hands a mail to a server; *SMTP is one. An error that is no *SendError, or one that is
// not permanent, has the mail tried again.
type Transport interface {
	Send(ctx context.Context, m *Message) error
}

const (
	// claimLease outlives every try to send: a mail whose sender died is free again after it.
	claimLease = 2 * time.Minute
	// sendWithin bounds one try, whatever the transport's own limit, so that it ends before its lease.
	sendWithin = claimLease - 20*time.Second
	// settleWithin bounds writing down what came of a try, also while the process stops.
	settleWithin = 5 * time.Second
	// giveUpAfter is how long a mail is tried.
	giveUpAfter = 5 * 24 * time.Hour
	// errorMax bounds what is kept of a server's answer.
	errorMax = 300
)

// backoff is the wait after the first failed tries; its last step repeats.
var backoff = [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// Backoff is how long a mail waits after its nth failed try (1 or more).
func Backoff(n int) time.Duration { return backoff[min(max(n, 1), len(backoff))-1] }

// Options of a Sender.
type Options struct {
	Outbox    Outbox
	Transport Transport
	Composer  *Composer
	Metrics   *Metrics
	Log       *slog.Logger
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Sender sends mails of the outbox. It is safe for concurrent use, also by several processes.
type Sender struct{ opts Options }

// NewSender returns a Sender.
func NewSender(o Options) *Sender {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sender{opts: o}
}

// Send takes one mail of an app's outbox as far as it gets: sent, to be tried again, or failed for
// good; each is written down. A mail that somebody else sends, that is settled or not due is left
// alone. An error means that the outbox could not be read or written: the task may be run again,
// and the outbox lists the mail as due once its lease has ended.
func (s *Sender) Send(ctx context.Context, app partner.ClientID, mailID string) error {
	claim, err := s.opts.Outbox.ClaimMail(ctx, app, mailID, claimLease)
	if err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	if claim.Outcome != registry.ClaimTaken {
		s.opts.Log.DebugContext(ctx, "mail left alone", "app", string(app), "mail", mailID, "outcome", int(claim.Outcome))
		return nil
	}
	t := &try{Sender: s, app: app, id: mailID, claim: claim, began: s.opts.Now()}
	if claim.Unreadable != nil {
		return t.fail(ctx, ResultUnreadable, &SendError{Err: claim.Unreadable})
	}
	msg, err := s.opts.Composer.Compose(&claim.Letter)
	if err != nil {
		return t.fail(ctx, ResultUnreadable, &SendError{Err: err})
	}
	sendCtx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	err = s.opts.Transport.Send(sendCtx, msg)
	var refused *SendError
	switch {
	case err == nil:
		return t.sent(ctx)
	case errors.As(err, &refused) && refused.Permanent:
		return t.fail(ctx, ResultRefused, refused)
	case t.began.Sub(claim.Letter.Mail.At) >= giveUpAfter:
		return t.fail(ctx, ResultExpired, asSendError(err))
	default:
		return t.postpone(ctx, asSendError(err))
	}
}

func asSendError(err error) *SendError {
	if e, ok := errors.AsType[*SendError](err); ok {
		return e
	}
	return &SendError{Err: err}
}

// try is one try to send one mail.
type try struct {
	*Sender
	app   partner.ClientID
	id    string
	claim registry.MailClaim
	began time.Time
}

// settling outlives the end of ctx: what came of a try must be written down also while stopping.
func settling(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
}

func (t *try) sent(ctx context.Context) error {
	sctx, cancel := settling(ctx)
	defer cancel()
	_, err := t.opts.Outbox.MailSent(sctx, t.app, t.id, t.claim.Token)
	t.report(ctx, ResultSent, nil, 0)
	return wrapSettle(err, t.id)
}

func (t *try) postpone(ctx context.Context, cause *SendError) error {
	sctx, cancel := settling(ctx)
	defer cancel()
	delay := Backoff(t.claim.Attempts)
	_, err := t.opts.Outbox.MailDeferred(sctx, t.app, t.id, t.claim.Token, delay)
	t.report(ctx, ResultDeferred, cause, delay)
	return wrapSettle(err, t.id)
}

func (t *try) fail(ctx context.Context, r Result, cause *SendError) error {
	sctx, cancel := settling(ctx)
	defer cancel()
	_, err := t.opts.Outbox.MailFailed(sctx, t.app, t.id, t.claim.Token, registry.MailFailure{
		To: t.claim.Letter.To, Kind: t.claim.Letter.Mail.Kind, At: t.opts.Now().UTC(), Code: cause.Code,
		Error: secret.Excerpt([]byte(cause.Error()), errorMax),
	})
	t.report(ctx, r, cause, 0)
	return wrapSettle(err, t.id)
}

func wrapSettle(err error, mailID string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write down what came of mail %s: %w", mailID, err)
}

// report counts the try and writes its canonical log line, without the recipient's address.
func (t *try) report(ctx context.Context, r Result, cause *SendError, delay time.Duration) {
	m := &t.claim.Letter.Mail
	t.opts.Metrics.count(m.Kind, r)
	attrs := []slog.Attr{
		slog.String("app", string(t.app)), slog.String("endpoint", m.Endpoint.String()), slog.String("mail", t.id),
		slog.String("kind", string(m.Kind)), slog.Int("attempt", t.claim.Attempts), slog.String("outcome", string(r)),
		slog.Int64("duration_ms", t.opts.Now().Sub(t.began).Milliseconds()),
	}
	level := slog.LevelInfo
	if cause != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Int("status", cause.Code), slog.String("err", t.withoutAddress(cause)))
	}
	if delay > 0 {
		attrs = append(attrs, slog.Time("next_attempt_at", t.opts.Now().Add(delay).UTC()))
	}
	t.opts.Log.LogAttrs(ctx, level, "mail tried", attrs...)
}

// withoutAddress keeps the recipient out of the log; the mail's id names them there.
func (t *try) withoutAddress(cause *SendError) string {
	text := secret.Excerpt([]byte(cause.Error()), errorMax)
	return replaceFold(text, t.claim.Letter.To, incident.RecipientKey(t.claim.Letter.To))
}

func replaceFold(s, old, by string) string {
	if old == "" {
		return s
	}
	return regexp.MustCompile(`(?i)`+regexp.QuoteMeta(old)).ReplaceAllLiteralString(s, by)
}
