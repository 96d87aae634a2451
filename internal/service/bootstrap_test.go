package service_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/service"
)

// begins makes a service with a bootstrap token, and returns what it logs.
func begins(t *testing.T, rdb redis.UniversalClient, token string) (string, error) {
	t.Helper()
	var log bytes.Buffer
	cfg := settings(t)
	cfg.BootstrapToken = secret.New(token)
	s, err := service.New(t.Context(), service.Options{
		Config: cfg, Version: "test", Log: slog.New(slog.NewTextHandler(&log, nil)), Redis: rdb, Keys: signingKeys(t), Loopback: true, Unsafe: true,
	})
	if err == nil {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = s.Run(ctx)
	}
	return log.String(), err
}

// TestBootstrapTokens: a new one is long and its id says nothing about it; a short one that the store knows goes on.
func TestBootstrapTokens(t *testing.T) {
	t.Parallel()
	long, short := strings.Repeat("a1", 16), strings.Repeat("a", 31)
	store := func(rdb redis.UniversalClient) *registry.Store {
		return registry.New(rdb, registry.Options{Keys: keys.New("lamplighter"), Keyring: ring(t)})
	}
	add := func(t *testing.T, rdb redis.UniversalClient, token, role string) {
		t.Helper()
		now := time.Now()
		_, err := store(rdb).CreateToken(t.Context(), registry.Token{ID: "older", Name: "older", Role: role, CreatedAt: now, ExpiresAt: now.Add(time.Hour)},
			httpapi.HashToken(token), false, registry.Actor{Name: "test"})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		known, role, token string
		refused, warned    bool
	}{
		"Long":                 {token: long},
		"Short":                {token: short, refused: true},
		"ShortAndKnown":        {known: short, role: "admin", token: short, warned: true},
		"ShortBesideAnAdmin":   {known: "other", role: "admin", token: short, warned: true},
		"ShortBesideAPartner":  {known: "other", role: "partner:app1", token: short, refused: true},
		"LongBesideAnAdmin":    {known: "other", role: "admin", token: long},
		"AnothersToken":        {known: long, role: "partner:app1", token: long, refused: true},
		"LongAndKnownAsAnyway": {known: long, role: "admin", token: long},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := redistest.Mini(t)
			if test.known != "" {
				add(t, rdb, test.known, test.role)
			}
			log, err := begins(t, rdb, test.token)
			if (err != nil) != test.refused || strings.Contains(log, "fewer than 32") != test.warned {
				t.Fatalf("refused: %v; log %s", err, log)
			}
			for _, text := range []string{log, errorText(err)} {
				if strings.Contains(text, test.token) {
					t.Errorf("the token is in %q", text)
				}
			}
			if test.refused {
				return
			}
			if _, err := begins(t, rdb, test.token); err != nil {
				t.Errorf("again: %v", err)
			}
			found, err := store(rdb).TokenByHash(t.Context(), httpapi.HashToken(test.token))
			if made := test.known == ""; made && (err != nil || !strings.HasPrefix(found.ID, "bootstrap-") || strings.Contains(httpapi.HashToken(test.token), strings.TrimPrefix(found.ID, "bootstrap-"))) {
				t.Errorf("made %+v, %v", found, err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
