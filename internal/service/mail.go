package service

import (
	"context"
	"fmt"
	"time"

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
	transport, err := mailer.NewSMTP(mailer.SMTPOptions{
		Host: c.Host, Port: c.Port, Username: c.Username, Password: c.Password, TLS: mailer.TLSMode(c.TLS), Timeout: c.Timeout,
	})
	if err != nil {
		return nil, fmt.Errorf("smtp: %w", err)
	}
	composer, err := mailer.NewComposer(c.From, mailer.LinkMaker{})
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return mailer.NewSender(mailer.Options{
		Outbox: s.incidents, Trays: s.trays, Silence: s.incidents, Waker: s.queue,
		Transport: transport, Composer: composer, Policy: mailer.Policy{GatherFor: s.cfg.Mail.GatherFor, DailyCap: s.cfg.Mail.DailyCap},
		Metrics: metrics, Log: s.log,
	}), nil
}
