package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/config"
)

func TestChanged(t *testing.T) {
	t.Parallel()
	loadWith := func(environ ...string) *config.Config {
		t.Helper()
		l, err := config.Load(config.Sources{Environ: environ})
		if err != nil {
			t.Fatal(err)
		}
		return &l.Config
	}
	plain := loadWith()
	for name, tc := range map[string]struct {
		after *config.Config
		want  []string
	}{
		"Nothing":          {loadWith(), nil},
		"TheDefaultSpelt":  {loadWith("LAMPLIGHTER_DELIVERY_TIMEOUT=10000ms"), nil},
		"Text":             {loadWith("LAMPLIGHTER_LOG_LEVEL=debug"), []string{"log.level"}},
		"Lists":            {loadWith("LAMPLIGHTER_GUARD_ALLOW_PORTS=443", "LAMPLIGHTER_SIGNING_KEYS=a.pem"), []string{"signing.keys", "guard.allow_ports"}},
		"Secret":           {loadWith("LAMPLIGHTER_REDIS_PASSWORD=hush"), []string{"redis.password"}},
		"DerivedFromOther": {loadWith("LAMPLIGHTER_ENVIRONMENT=sod"), []string{"environment", "token.issuer.state_change"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, s := range config.ChangedSettings(plain, tc.after) {
				got = append(got, s.Key)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("changed settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReloadable(t *testing.T) {
	t.Parallel()
	var got []string
	for _, s := range config.AllSettings() {
		if s.Reload {
			got = append(got, s.Key)
		}
	}
	if diff := cmp.Diff([]string{"log.level", "signing.keys"}, got); diff != "" {
		t.Errorf("what service.Reload and serve carry out (-want +got):\n%s", diff)
	}
}
