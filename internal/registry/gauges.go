package registry

import (
	"context"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// SaveGauges stores the cluster's gauges for the other processes. They expire after ttl unless newer ones are saved.
func (s *Store) SaveGauges(ctx context.Context, doc []byte, ttl time.Duration) error {
	return wrapError(s.rdb.Set(ctx, s.keys.Config(keys.ConfigGauges), doc, ttl).Err(), "save the cluster's gauges")
}

// Gauges reads what SaveGauges stored, nil if there is nothing.
func (s *Store) Gauges(ctx context.Context) ([]byte, error) {
	doc, err := s.rdb.Get(ctx, s.keys.Config(keys.ConfigGauges)).Bytes()
	if isRedisNil(err) {
		return nil, nil
	}
	return doc, wrapError(err, "read the cluster's gauges")
}
