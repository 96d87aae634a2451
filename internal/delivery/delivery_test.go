package delivery_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// The table of answers, status by status.
func TestClassifyStatus(t *testing.T) {
	t.Parallel()
	type row struct {
		outcome, reason string
		fault           delivery.Fault
		wait            bool
	}
	ok := row{"delivered", "none", delivery.FaultNone, false}
	server := row{"retryable", "server_error", delivery.FaultEndpoint, false}
	redirect := row{"retryable", "redirect", delivery.FaultEndpoint, false}
	auth := row{"retryable", "auth_error", delivery.FaultEndpoint, false}
	missing := row{"retryable", "client_error", delivery.FaultEndpoint, false}
	rejected := row{"rejected", "client_error", delivery.FaultNotification, false}
	for status, want := range map[int]row{
		199: server, 200: ok, 202: ok, 204: ok, 299: ok, 300: redirect, 301: redirect, 304: redirect, 399: redirect,
		400: rejected, 401: auth, 402: rejected, 403: auth, 404: missing, 405: missing, 406: rejected, 409: rejected,
		410: {"gone", "gone", delivery.FaultEndpoint, false}, 411: rejected, 422: rejected, 428: rejected,
		429: {"retryable", "rate_limited", delivery.FaultNone, true}, 430: rejected, 499: rejected,
		500: server, 502: server, 503: {"retryable", "server_error", delivery.FaultEndpoint, true}, 504: server, 599: server,
		600: server, 999: server, 0: server,
	} {
		r := delivery.ClassifyStatus(status)
		got := row{r.Outcome.String(), r.Reason.String(), r.Fault, r.Wait}
		if got != want || r.Status != status {
			t.Errorf("ClassifyStatus(%d) = %+v, want %+v", status, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "0": 0, "1": time.Second, " 120 ": 2 * time.Minute, "3600": time.Hour, "3601": time.Hour,
		"99999999999999999999": time.Hour, "-1": 0, "1.5": 0, "soon": 0,
		now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):       0,
		now.Add(48 * time.Hour).Format(http.TimeFormat):   time.Hour,
	} {
		if got := delivery.ParseRetryAfter(in, now); got != want {
			t.Errorf("RetryAfter(%q) = %v, want %v", in, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Fri, 31 Dec 1999 23:59:59 GMT")
	f.Fuzz(func(t *testing.T, s string) {
		if d := delivery.ParseRetryAfter(s, time.Unix(1e9, 0)); d < 0 || d > delivery.MaxRetryAfter {
			t.Errorf("RetryAfter(%q) = %v", s, d)
		}
	})
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	s := delivery.Schedule(delivery.DefaultSchedule())
	for _, c := range []struct {
		attempts int
		random   float64
		want     time.Duration
	}{
		{0, 0.5, 5 * time.Second},
		{1, 0, 4 * time.Second},
		{1, 0.5, 5 * time.Second},
		{2, 0.5, 5 * time.Minute},
		{9, 0.5, 24 * time.Hour},
		{10, 0.5, 24 * time.Hour},
		{1000, 0.5, 24 * time.Hour},
	} {
		if got := s.After(c.attempts, c.random); got != c.want {
			t.Errorf("After(%d, %v) = %v, want %v", c.attempts, c.random, got, c.want)
		}
	}
	if got := delivery.Schedule(nil).After(3, 0.5); got != 0 {
		t.Errorf("empty schedule waits %v", got)
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	g := delivery.Cooldown{Base: 5 * time.Second, Max: time.Minute}
	want := []time.Duration{5, 10, 20, 40, 60, 60}
	for i, w := range want {
		if got := g.After(i+1, 1); got != w*time.Second {
			t.Errorf("After(%d) = %v, want %vs", i+1, got, int(w))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n, r := rapid.IntRange(-5, 1_000_000).Draw(t, "n"), rapid.Float64Range(0, 1).Draw(t, "random")
		if got := g.After(n, r); got < 4*time.Second || got > time.Minute {
			t.Fatalf("After(%d, %v) = %v", n, r, got)
		}
	})
}

func TestChangeRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ms := func(name string) time.Time {
			return time.UnixMilli(rapid.Int64Range(1, 4e12).Draw(t, name)).UTC()
		}
		id := rapid.SampledFrom([]string{"chg_a_1", "chg_a_1764155580123", "chg_b_1", "chg_a_01", "chg_a_-1", "other"}).Draw(t, "id")
		want := tenant.Change{
			ID: id, Tenant: "a", Type: rapid.SampledFrom(tenant.AllChangeTypes()).Draw(t, "type"), Sequence: rapid.Int64().Draw(t, "seq"),
			VersionName: rapid.String().Draw(t, "version"), FileVersion: rapid.String().Draw(t, "file"),
			PublicEndpoint: rapid.StringMatching(`[a-z0-9.]{0,20}`).Draw(t, "endpoint"), OccurredAt: ms("occurred"), AcceptedAt: ms("accepted"),
		}
		switch rapid.IntRange(0, 2).Draw(t, "accepted at") {
		case 0:
			want.AcceptedAt = time.UnixMilli(1764155580123).UTC()
		case 1:
			want.AcceptedAt = time.Time{}
		}
		got, err := delivery.DecodeChange(delivery.EncodeChange(want), want.Tenant, want.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}

// What the release before wrote, and the registry writes, is read as it was meant.
func TestDecodesFormat1(t *testing.T) {
	t.Parallel()
	got, err := delivery.DecodeChange(`{"v":1,"i":"chg_a_9","t":5,"n":"10.3","f":"1.2","e":"x.example","a":1764155580123,"o":7}`, "a", 12)
	if err != nil {
		t.Fatal(err)
	}
	want := tenant.Change{
		ID: "chg_a_9", Tenant: "a", Type: tenant.Move, Sequence: 12, VersionName: "10.3", FileVersion: "1.2", PublicEndpoint: "x.example",
		AcceptedAt: time.UnixMilli(1764155580123).UTC(), OccurredAt: time.UnixMilli(7).UTC(),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got, err = delivery.DecodeChange(`{"v":1,"i":"chg_a_9","t":0}`, "a", 12); err != nil || !got.AcceptedAt.IsZero() {
		t.Errorf("without times: %+v, %v", got, err)
	}
}

// What waits for a dead app is kept once for each tenant: its bytes count.
func TestStoredChangeIsShort(t *testing.T) {
	t.Parallel()
	const n = 1764155580123
	c := tenant.Change{ID: tenant.FormatChangeID("Cust12345", n), Tenant: "Cust12345", Type: tenant.Suspend, AcceptedAt: time.UnixMilli(n).UTC()}
	if got, want := delivery.EncodeChange(c), `{"v":2,"q":1764155580123,"t":2}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDecodeRefusesForeignValues(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "x", "{}", `{"v":3,"i":"a","t":1}`, `{"v":2,"i":"a","t":1}`, `{"v":2,"q":-1,"t":1}`, `{"v":1,"i":"a","t":6}`, `{"v":1,"t":1}`, `[1]`, `{"v":"1"}`} {
		if _, err := delivery.DecodeChange(in, "a", 1); !errors.Is(err, delivery.ErrBadPayload) {
			t.Errorf("DecodeChange(%q) error = %v", in, err)
		}
	}
	for _, in := range []string{"", "1;2;3;4;5", "a;2;3;4;5;x", "1;2;3;4;5;r;x", "1;2;3;4;5;rabc", "1;2;-1;4;5;x", "1;2;1/2;4;5;x", "1;2;1/2/3/x;4;5;x", "1;2;1/2/-3/4;4;5;x"} {
		if _, err := delivery.ParseEntry(in); !errors.Is(err, delivery.ErrBadPayload) {
			t.Errorf("ParseEntry(%q) error = %v", in, err)
		}
	}
}

func TestEntryMessage(t *testing.T) {
	t.Parallel()
	c := tenant.Change{ID: "chg_a_9", Tenant: "a", Type: tenant.Resume, VersionName: "semi;colon"}
	for name, row := range map[string]struct{ in, id string }{
		"InItsTurn": {"9;3;2;1;1000;" + delivery.EncodeChange(c), "chg_a_9"},
		"ToldAgain": {"9;3;2;1;1000;rabc;" + delivery.EncodeChange(c), "chg_a_9_abc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := delivery.ParseEntry(row.in)
			if err != nil {
				t.Fatal(err)
			}
			m, err := e.Message("app1", "a")
			if err != nil {
				t.Fatal(err)
			}
			want := c
			want.Sequence = 9
			if d := cmp.Diff(delivery.Message{
				ClientID: "app1", Change: want, WebhookID: row.id, Sequence: 9, Superseded: 1, Attempts: 2, FirstDeposited: time.UnixMilli(1000).UTC(),
			}, m); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestEntryAttempts(t *testing.T) {
	t.Parallel()
	e, err := delivery.ParseEntry("9;3;7/2/3/5000;1;1000;" + delivery.EncodeChange(tenant.Change{ID: "x"}))
	if err != nil {
		t.Fatal(err)
	}
	if e.Attempts != 7 || e.Steps != 2 || e.LastReason != delivery.ReasonRefused || e.LastAttemptMS != 5000 {
		t.Errorf("entry = %+v", e)
	}
	m, err := e.Message("app1", "a")
	if err != nil || m.Steps != 2 || !m.LastAttempt.Equal(time.UnixMilli(5000)) {
		t.Errorf("message = %+v, %v", m, err)
	}
}

func TestEnumsAreComplete(t *testing.T) {
	t.Parallel()
	if n := len(delivery.AllOutcomes()); n != 6 {
		t.Errorf("%d outcomes", n)
	}
	seen := map[string]bool{}
	for _, r := range delivery.AllReasons() {
		if seen[r.String()] || r.Description() == r.String() {
			t.Errorf("reason %v is repeated or has no words", r)
		}
		seen[r.String()] = true
		if back, ok := delivery.ParseReason(r.String()); !ok || back != r {
			t.Errorf("ParseReason(%v) = %v, %v", r, back, ok)
		}
	}
	if delivery.Outcome(99).String() != "outcome(99)" || delivery.Reason(99).String() != "reason(99)" {
		t.Error("values outside the sets must be told apart")
	}
}
