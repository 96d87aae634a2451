package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// Reload applies what can change while the service runs: the signing keys, whose files are read again. On an error
// nothing has changed. Settings without the mark in config's table are ignored. It MUST NOT run twice at once.
func (s *Service) Reload(ctx context.Context, c config.Config) error {
	if s.opts.Keys != nil {
		return errors.New("signing.keys: this service got its keys from its caller")
	}
	next, err := signing.LoadKeys(c.Signing.Keys...)
	if err != nil {
		return fmt.Errorf("signing.keys: %w", err)
	}
	if err := checkSigningKeys(next); err != nil {
		return err
	}
	s.keySet.Replace(next)
	if err := s.describeKeys(); err != nil {
		return err
	}
	for _, k := range next.Expiry() {
		s.log.InfoContext(ctx, "signing key in use", "kid", k.KeyID, "alg", k.Algorithm, "not_before", k.NotBefore, "not_after", k.NotAfter)
	}
	return nil
}
