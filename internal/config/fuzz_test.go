package config_test

import (
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/config"
)

// FuzzLoad: whatever the file says, Load answers, shows no secret in its errors, and what it
// accepts it can print and, without secrets, load again.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"", "environment: sod", "redis:\n  url: redis://u:p@h:1/0\n", "roles: [api]", "a: &b [*b]", "<<: *x", "delivery: {timeout: 9s, timeout: 8s}",
		"encryption.key: " + key32, "guard: {allow_cidrs: [::/0]}", "? {a: b}\n: c", "!!binary x: y", "incident.remind_after: 1h,2h", "{", "\xff", "---\n...\n---",
	} {
		f.Add(seed, "LAMPLIGHTER_LISTEN=:1")
	}
	f.Fuzz(func(t *testing.T, file, variable string) {
		l, err := load(file, env(variable), func(s *config.Sources) { s.ReadFile = nil })
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("an error without words")
			}
			return
		}
		var b strings.Builder
		if err := l.Print(&b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "[redacted]") {
			return
		}
		if _, err := load(b.String()); err != nil {
			t.Errorf("printed settings do not load: %v\n%s", err, b.String())
		}
	})
}
