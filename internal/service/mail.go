package service

import (
	"context"
	"fmt"

	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// buildMail makes the sender of mails, and the queue's server, which is the last to need anything.
func (s *Service) buildMail() error {
	if !s.has(RoleWorker) {
		return nil
	}
	send, err := s.sender()
	if err != nil {
		return err
	}
	p := &s.parts
	s.server = queue.NewServer(s.rdb, queue.Handlers{
		Fanout: func(ctx context.Context, ts []tenant.ID) error { return p.fanout.Run(ctx, ts) },
		Drain:  s.drainer.Drain,
		Mail:   send,
		Resync: func(ctx context.Context, app partner.ClientID) error {
			_, err := p.approvals.Resync(ctx, app, nil)
			return err
		},
	}, queue.ServerOptions{Environment: string(s.env), Poll: queuePoll, ShutdownTimeout: s.cfg.ShutdownTimeout, Drainers: s.cfg.Delivery.Drainers, Log: s.log})
	return nil
}

func (s *Service) sender() (func(context.Context, partner.ClientID, string) error, error) {
	metrics := mailer.NewMetrics(s.metrics)
	c := s.cfg.SMTP
	if c.Disabled {
		// letters wait in the outbox until they expire there; nobody decided to drop them
		return func(context.Context, partner.ClientID, string) error { return nil }, nil
	}
	transport, err := mailer.NewSMTP(mailer.SMTPOptions{
		Host: c.Host, Port: c.Port, Username: c.Username, Password: c.Password, TLS: mailer.TLSMode(c.TLS), Timeout: c.Timeout,
	})
	if err != nil {
		return nil, fmt.Errorf("smtp: %w", err)
	}
	composer, err := mailer.NewComposer(c.From, nil)
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	sender := mailer.NewSender(mailer.Options{
		Outbox: s.incidents, Transport: transport, Composer: composer, Metrics: metrics, Log: s.log,
	})
	return sender.Send, nil
}
