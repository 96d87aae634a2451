package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// ErrOtherEnvironment reports that the keys under the prefix belong to another environment.
var ErrOtherEnvironment = errors.New("the keys belong to another environment")

// The scripts of leases.
var (
	takeLease    = newScript("lease")
	releaseLease = newScript("release")
)

// TakeLease takes or renews the lease called name for holder, and reports whether holder has it. The lease expires after ttl, by
// Redis's clock. The holder renews it well before, and must assume that it is lost if a renewal fails. Work that must never run
// twice must not rely on it.
func (s *Store) TakeLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	n, err := takeLease.run(ctx, s.rdb, s.leaseKey(name), holder, max(ttl.Milliseconds(), 1)).Int()
	return n == 1, wrapError(err, "take lease %s", name)
}

// LeaseOrWait takes the lease called name for holder and d. It returns how long another holder's lease still lasts, or 0 if
// holder has it now.
func (s *Store) LeaseOrWait(ctx context.Context, name, holder string, d time.Duration) (wait time.Duration, err error) {
	held, err := s.TakeLease(ctx, name, holder, d)
	if err != nil || held {
		return 0, err
	}
	left, err := s.rdb.PTTL(ctx, s.leaseKey(name)[0]).Result()
	return max(left, time.Millisecond), wrapError(err, "read lease %s", name)
}

// ReleaseLease releases a lease early. A lease of another holder stays as it is.
func (s *Store) ReleaseLease(ctx context.Context, name, holder string) error {
	return wrapError(releaseLease.run(ctx, s.rdb, s.leaseKey(name), holder).Err(), "release lease %s", name)
}

func (s *Store) leaseKey(name string) []string {
	return []string{s.keys.Config(keys.ConfigLeases) + ":" + name}
}

// ClaimEnvironment makes sure that only one environment uses the keys under the prefix: the first to claim them owns them
// permanently. Errors: ErrOtherEnvironment.
func (s *Store) ClaimEnvironment(ctx context.Context, env partner.Environment) error {
	key := s.keys.Config(keys.ConfigEnvironment)
	owner, err := s.rdb.Get(ctx, key).Result()
	if isRedisNil(err) {
		// One command decides; the second caller reads a value that never changes again. A restart does not get here, so it needs
		// no memory if Redis is full.
		if err := s.rdb.SetNX(ctx, key, string(env), 0).Err(); err != nil {
			return wrapError(err, "claim the keys for environment %s", env)
		}
		owner, err = s.rdb.Get(ctx, key).Result()
	}
	if err != nil {
		return wrapError(err, "claim the keys for environment %s", env)
	}
	if owner != string(env) {
		return fmt.Errorf("keys with prefix %q are in use by environment %q, this one is %q: %w: set another redis.prefix or another Redis database",
			s.keys.Prefix(), owner, env, ErrOtherEnvironment)
	}
	return nil
}
