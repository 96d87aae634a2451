package registry_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// TestNoPrimaryIsNotAbsence asks where the sentinels know no primary, which the library tells with the same
// error as an absent key: no token is unknown by that, and no tenant.
func TestNoPrimaryIsNotAbsence(t *testing.T) {
	t.Parallel()
	url := redistest.StartSentinels(t, redistest.Start(t), 1).URL()
	rdb, err := redisconn.New(redisconn.Options{URL: secret.New(strings.Replace(url, "/"+redistest.SentinelMaster, "/another", 1))})
	noErr(t, "connect", err)
	t.Cleanup(func() { _ = rdb.Close() })
	s := registry.New(rdb, registry.Options{Keys: keys.New("test"), Keyring: testKeyring(t)})
	ctx := t.Context()
	for what, f := range map[string]func() error{
		"TokenByHash": func() error { _, err := s.TokenByHash(ctx, "h"); return err },
		"Token":       func() error { _, err := s.Token(ctx, "t"); return err },
		"Status":      func() error { _, err := s.Status(ctx, "Cust1"); return err },
		"App":         func() error { _, err := s.App(ctx, "app1"); return err },
		"Gauges":      func() error { _, err := s.Gauges(ctx); return err },
		"Summary":     func() error { _, err := registry.NewProbeStore(rdb, keys.New("test")).Summary(ctx); return err },
		"Lease":       func() error { _, err := s.TakeLease(ctx, "l", "h", time.Second); return err },
	} {
		if err := f(); err == nil || errors.Is(err, registry.ErrNotFound) || redisconn.ClassifyFault(err) != redisconn.FaultPrimary {
			t.Errorf("%s: %v is a fault of %q", what, err, redisconn.ClassifyFault(err))
		}
	}
}
