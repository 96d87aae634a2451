package dev_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/dev"
)

func TestEventsTellTheLogInWords(t *testing.T) {
	t.Parallel()
	attempt := func(outcome, reason string, n int) []any {
		return []any{"app", "a1", "tenant", "Cust1", "outcome", outcome, "reason", reason, "attempt", n, "status", 200}
	}
	for name, tc := range map[string]struct {
		level slog.Level
		msg   string
		args  []any
		want  string
		next  bool
	}{
		"Change":    {slog.LevelInfo, "request handled", []any{"operation", "postStateChanges", "status", 202, "tenant", "Cust1", "change_id", "chg_1"}, "accepted  a change of Cust1 (chg_1)", false},
		"Lines":     {slog.LevelInfo, "request handled", []any{"operation", "postStateChanges", "status", 200}, "accepted  lines of changes", false},
		"Refused":   {slog.LevelInfo, "request handled", []any{"method", "PUT", "route", "/v1/x", "status", 422, "err", "bad\nname"}, "answered  PUT /v1/x with 422: bad name", false},
		"OtherCall": {slog.LevelInfo, "request handled", []any{"operation", "putApp", "status", 200}, "", false},
		"First":     {slog.LevelWarn, "delivery attempted", attempt("retryable", "refused", 1), "waiting   a1 could not be notified about Cust1: refused, attempt 1; the notification is kept, and tried again until it is delivered", false},
		"Second":    {slog.LevelWarn, "delivery attempted", attempt("retryable", "timeout", 2), "waiting   a1 could not be notified about Cust1: timeout, attempt 2", false},
		"Delivered": {slog.LevelInfo, "delivery attempted", attempt("delivered", "none", 1), "delivered a1 was notified about Cust1 and answered 200", false},
		"Verified":  {slog.LevelInfo, "delivery attempted", append(attempt("delivered", "none", 1), "app", "mine"), "", false},
		"MailSent":  {slog.LevelInfo, "mail tried", []any{"app", "a1", "outcome", "sent"}, "", false},
		"MailNot":   {slog.LevelWarn, "mail tried", []any{"app", "a1", "outcome", "deferred", "err", "away"}, "mail      about a1 deferred: away", false},
		"Info":      {slog.LevelInfo, "started", nil, "", false},
		"Warning":   {slog.LevelWarn, "something else", nil, "", true},
		"Escape":    {slog.LevelInfo, "request handled", []any{"method", "PUT", "route", "/\x1b[2J", "status", 400}, "answered  PUT /[2J with 400", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, next bytes.Buffer
			h, open := dev.NewEvents(&out, false, time.Date(2026, 11, 24, 10, 11, 12, 0, time.UTC),
				func(app, _ string) bool { return app == "mine" }, slog.NewTextHandler(&next, &slog.HandlerOptions{Level: slog.LevelWarn}))
			slog.New(h).Log(t.Context(), tc.level, tc.msg, tc.args...) //nolint:sloglint // the messages are the cases
			if out.Len() > 0 {
				t.Errorf("told before the banner: %s", &out)
			}
			open("banner\n")
			want := "banner\n"
			if tc.want != "" {
				want += "10:11:12  " + tc.want + "\n"
			}
			if diff := cmp.Diff(want, out.String()); diff != "" {
				t.Error(diff)
			}
			if (next.Len() > 0) != tc.next {
				t.Errorf("went on to the log: %q", next.String())
			}
		})
	}
}

func TestEventsKeepWhatALoggerCarries(t *testing.T) {
	t.Parallel()
	var out, next bytes.Buffer
	h, open := dev.NewEvents(&out, true, time.Now(), func(string, string) bool { return false }, slog.NewTextHandler(&next, nil))
	open("")
	log := slog.New(h).With("part", "x").WithGroup("g")
	log.Warn("odd", "k", 1)
	log.Info("mail tried", "app", "a1", "outcome", "deferred")
	if got := next.String(); !strings.Contains(got, "part=x g.k=1") || strings.Contains(got, "mail tried") {
		t.Errorf("log: %s", got)
	}
	if got := out.String(); !strings.Contains(got, "\x1b[31mmail     \x1b[0m about a1") {
		t.Errorf("a coloured line: %q", got)
	}
}
