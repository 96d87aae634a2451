package mailer

import (
	"context"
	"fmt"
)

// Check connects to the mail server, greets and logs in, and sends nothing.
func (s *SMTP) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	l, err := s.dial(ctx, nil)
	if err != nil {
		return fmt.Errorf("connect to mail server %s: %w", s.opts.Host, err)
	}
	l.end()
	return nil
}
