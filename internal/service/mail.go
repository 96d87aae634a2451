package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/mail"
	"strings"

	"github.com/lamplighter/lamplighter/internal/alerting"
	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/smallfile"
	"github.com/lamplighter/lamplighter/internal/sweep"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// mailSender is the part of the mailer that the queue and the loops use.
type mailSender interface {
	ForwardMail(ctx context.Context, app partner.ClientID, mailID string) error
	SendQueued(ctx context.Context, recipient string) error
	FindDueQueues(ctx context.Context, after registry.MailQueuePlace) (b mailer.Backlog, next registry.MailQueuePlace, more bool, err error)
	WakeRecipient(ctx context.Context, recipient string) error
}

// disabledSender replaces the mailer when smtp.disabled is set. Mails wait in the outboxes, since none is suppressed.
type disabledSender struct{}

// ForwardMail sends nothing; like the other methods it implements mailSender.
func (disabledSender) ForwardMail(context.Context, partner.ClientID, string) error { return nil }

// SendQueued sends nothing.
func (disabledSender) SendQueued(context.Context, string) error { return nil }

// FindDueQueues finds nothing.
func (disabledSender) FindDueQueues(context.Context, registry.MailQueuePlace) (mailer.Backlog, registry.MailQueuePlace, bool, error) {
	return mailer.Backlog{}, registry.MailQueuePlace{}, false, nil
}

// WakeRecipient does nothing.
func (disabledSender) WakeRecipient(context.Context, string) error { return nil }

// pendingMails gives the pending mails to the loops.
type pendingMails struct {
	*registry.IncidentStore

	sender  mailSender
	tracker *alerting.Tracker
	// disabled says that no mails are sent, so no recipient is woken.
	disabled bool
}

// ReadMailQueues implements sweep.Mails.
func (w *pendingMails) ReadMailQueues(ctx context.Context, after registry.MailQueuePlace) (sweep.MailQueuePage, error) {
	b, next, more, err := w.sender.FindDueQueues(ctx, after)
	return sweep.MailQueuePage{Mails: b.Mails, Late: b.Oldest, Due: b.Due, Next: next, More: more}, err
}

// WakeMailQueue implements sweep.Mails.
func (w *pendingMails) WakeMailQueue(ctx context.Context, recipient string) error {
	return w.sender.WakeRecipient(ctx, recipient)
}

// WakeMail implements sweep.Mails.
func (w *pendingMails) WakeMail(ctx context.Context, app partner.ClientID, mailID string) error {
	if w.disabled {
		return nil
	}
	return w.tracker.WakeMail(ctx, app, mailID)
}

// buildMail builds what carries out the links in mails, and in workers the sender of mails and the queue's server, which
// needs all other parts.
func (s *Service) buildMail() error {
	p := &s.parts
	p.links = mailer.NewLinks(s.cfg.PublicURL, s.ring)
	p.subscriptions = mailer.NewSubscriptions(mailer.SubscriptionOptions{
		Links: p.links, Suppressions: s.incidents, Confirmations: s.mailQueues, Apps: p.apps, Log: s.log,
	})
	if !s.hasRole(RoleWorker) {
		return nil
	}
	sender, err := s.newMailSender()
	if err != nil {
		return err
	}
	p.sender = sender
	s.server = queue.NewServer(s.rdb, queue.Handlers{
		Fanout:      func(ctx context.Context, ts []tenant.ID) error { return p.fanout.Run(ctx, ts) },
		Drain:       s.drainer.Drain,
		ForwardMail: sender.ForwardMail,
		SendMail:    sender.SendQueued,
		Resync:      p.resyncer.CatchUp,
		Probe:       p.probes.ProbeIfDue,
	}, queue.ServerOptions{
		Namespace: s.queueNamespace(), Poll: queuePoll, ShutdownTimeout: s.cfg.ShutdownTimeout, Drainers: s.cfg.Delivery.Drainers,
		Probers: s.cfg.Probe.InFlight, Log: s.log,
	})
	return nil
}

func (s *Service) newMailSender() (mailSender, error) {
	metrics := mailer.NewMetrics(s.metrics)
	c := s.cfg.SMTP
	if c.Disabled {
		return disabledSender{}, nil
	}
	transport, err := NewSMTP(c, metrics)
	if err != nil {
		return nil, err
	}
	s.transport = transport
	composer, err := mailer.NewComposer(c.From, s.parts.links.LinkMaker())
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return mailer.NewSender(mailer.Options{
		Outbox: s.incidents, MailQueues: s.mailQueues, Suppressions: s.incidents, Bounces: s.parts.subscriptions, Waker: s.queue,
		Transport: transport, Composer: composer, Policy: mailer.Policy{GatherFor: s.cfg.Mail.GatherFor, DailyCap: s.cfg.Mail.DailyCap},
		Metrics: metrics, Log: s.log,
	}), nil
}

// NewSMTP makes the transport of the settings. metrics may be nil.
func NewSMTP(c config.SMTP, metrics *mailer.Metrics) (*mailer.SMTP, error) {
	o := mailer.SMTPOptions{
		Host: c.Host, Port: c.Port, Username: c.Username, Password: c.Password, TLS: mailer.TLSMode(c.TLS), Timeout: c.Timeout, Metrics: metrics,
	}
	if c.CA != "" {
		text, err := smallfile.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("smtp.ca: %w", err)
		}
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		if !o.TLSConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("smtp.ca: %s holds no certificate in PEM", c.CA)
		}
	}
	var err error
	if o.Signer, err = NewSigner(c); err != nil {
		return nil, err
	}
	transport, err := mailer.NewSMTP(o)
	if err != nil {
		return nil, fmt.Errorf("smtp: %w", err)
	}
	return transport, nil
}

// CheckMail reads the files that the mail settings name, without connecting.
func CheckMail(c *config.Config) error {
	if c.SMTP.Disabled || c.SMTP.Host == "" {
		return nil
	}
	transport, err := NewSMTP(c.SMTP, nil)
	if err != nil {
		return err
	}
	transport.Close()
	return nil
}

// NewSigner makes the DKIM signer of the settings, nil when they have none.
func NewSigner(c config.SMTP) (*mailer.Signer, error) {
	if c.DKIM.Key == "" {
		return nil, nil //nolint:nilnil // no signer signs nothing
	}
	text, err := smallfile.ReadFile(c.DKIM.Key)
	if err != nil {
		return nil, fmt.Errorf("smtp.dkim.key: %w", err)
	}
	domain := c.DKIM.Domain
	if domain == "" {
		from, err := mail.ParseAddress(c.From)
		if err != nil {
			return nil, fmt.Errorf("smtp.from: %w", err)
		}
		domain = from.Address[strings.LastIndexByte(from.Address, '@')+1:]
	}
	s, err := mailer.NewSigner(text, c.DKIM.Selector, domain)
	if err != nil {
		return nil, fmt.Errorf("smtp.dkim.key: %s %w", c.DKIM.Key, err)
	}
	return s, nil
}
