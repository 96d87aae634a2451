package mailer

import (
	"context"
	"fmt"
)

// CheckLogin connects to the mail server, greets and logs in, and sends nothing.
func (s *SMTP) CheckLogin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	l, err := s.dialServer(ctx, nil)
	if err != nil {
		return fmt.Errorf("connect to mail server %s: %w", s.opts.Host, err)
	}
	l.quitAndClose()
	return nil
}
