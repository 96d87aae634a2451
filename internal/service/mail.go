package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/mail"
	"os"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// post is the mailer's side that the queue and the sweep need.
type post interface {
	Forward(ctx context.Context, app partner.ClientID, mailID string) error
	Post(ctx context.Context, recipient string) error
	WakeDue(ctx context.Context) (mailer.Backlog, error)
}

// noPost stands for the mailer where smtp.disabled is set: letters wait in the outboxes until they
// expire there, since nobody decided to drop them.
type noPost struct{}

// Forward implements post, as do the others.
func (noPost) Forward(context.Context, partner.ClientID, string) error { return nil }

// Post sends nothing.
func (noPost) Post(context.Context, string) error { return nil }

// WakeDue wakes nobody.
func (noPost) WakeDue(context.Context) (mailer.Backlog, error) { return mailer.Backlog{}, nil }

// Mails implements sweep.Incidents.
func (t *troubles) Mails(ctx context.Context) (int, time.Duration, error) {
	b, err := t.post.WakeDue(ctx)
	return b.Letters, b.Oldest, err
}

// buildMail makes the sender of mails, and the queue's server, which is the last to need anything.
func (s *Service) buildMail() error {
	if !s.has(RoleWorker) {
		return nil
	}
	sender, err := s.sender()
	if err != nil {
		return err
	}
	p := &s.parts
	p.post = sender
	s.server = queue.NewServer(s.rdb, queue.Handlers{
		Fanout: func(ctx context.Context, ts []tenant.ID) error { return p.fanout.Run(ctx, ts) },
		Drain:  s.drainer.Drain,
		Mail:   sender.Forward,
		Post:   sender.Post,
		Resync: func(ctx context.Context, app partner.ClientID) error {
			_, err := p.approvals.Resync(ctx, app, nil)
			return err
		},
		Probe: p.probes.Run,
	}, queue.ServerOptions{
		Namespace: s.queues(), Poll: queuePoll, ShutdownTimeout: s.cfg.ShutdownTimeout, Drainers: s.cfg.Delivery.Drainers,
		Probers: s.cfg.Probe.InFlight, Log: s.log,
	})
	return nil
}

func (s *Service) sender() (post, error) {
	metrics := mailer.NewMetrics(s.metrics)
	c := s.cfg.SMTP
	if c.Disabled {
		return noPost{}, nil
	}
	transport, err := NewSMTP(c, metrics)
	if err != nil {
		return nil, err
	}
	s.transport = transport
	composer, err := mailer.NewComposer(c.From, s.parts.desk.links.Maker())
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return mailer.NewSender(mailer.Options{
		Outbox: s.incidents, Trays: s.trays, Silence: s.incidents, Bouncer: s.parts.desk, Waker: s.queue,
		Transport: transport, Composer: composer, Policy: mailer.Policy{GatherFor: s.cfg.Mail.GatherFor, DailyCap: s.cfg.Mail.DailyCap},
		Metrics: metrics, Log: s.log,
	}), nil
}

// NewSMTP makes the transport that the settings describe. metrics may be nil.
func NewSMTP(c config.SMTP, metrics *mailer.Metrics) (*mailer.SMTP, error) {
	o := mailer.SMTPOptions{
		Host: c.Host, Port: c.Port, Username: c.Username, Password: c.Password, TLS: mailer.TLSMode(c.TLS), Timeout: c.Timeout, Metrics: metrics,
	}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
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

// CheckMail reads the files that the settings of mail name, without connecting.
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

// NewSigner makes the DKIM signer that the settings describe, nil when they describe none.
func NewSigner(c config.SMTP) (*mailer.Signer, error) {
	if c.DKIM.Key == "" {
		return nil, nil //nolint:nilnil // no signer signs nothing
	}
	text, err := os.ReadFile(c.DKIM.Key)
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
