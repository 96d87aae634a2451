package push_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/push"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// recorder keeps where the last request went and how many signatures it had, and answers nothing.
type recorder struct {
	url        string
	signatures int
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.url, r.signatures = req.URL.String(), 0
	for name, values := range req.Header { // the names as they are sent are not canonical
		if name == "webhook-signature" {
			r.signatures = strings.Count(values[0], "v1,")
		}
	}
	return nil, errors.New("no answer")
}

// TestTargets: an attempt goes to the URL of the environment, signed by the secret in force and by those that were
// replaced and still sign.
func TestTargets(t *testing.T) {
	t.Parallel()
	now := time.Now()
	e := &registry.Entry{Rec: registry.AppRecord{App: partner.New("app1")}, Secrets: registry.WebhookSecrets{
		Current:  secret.New(whsec),
		Replaced: []registry.ReplacedSecret{{Secret: secret.New(whsec), Until: now.Add(time.Hour)}, {Secret: secret.New(whsec), Until: now.Add(-time.Hour)}},
	}}
	e.Rec.App.Endpoints[partner.StateChange].URL = "https://hook.example/online"
	var r recorder
	targets := push.NewTargets(over(&r, time.Second), partner.Online)
	for _, test := range []struct {
		after      time.Duration
		signatures int
	}{{0, 2}, {30 * time.Minute, 2}, {time.Hour, 1}, {2 * time.Hour, 1}} {
		attempt, err := targets.PrepareAttempt(e, now.Add(test.after))
		if err != nil {
			t.Fatal(err)
		}
		attempt(t.Context(), message(tenant.Suspend))
		if r.signatures != test.signatures || r.url != "https://hook.example/online" {
			t.Errorf("after %v: %d signatures, want %d, to %s", test.after, r.signatures, test.signatures, r.url)
		}
	}
}

// A secret that cannot be read is an error that names the app, and does not show the secret.
func TestTargetsOfUnreadableSecrets(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Hour)
	for name, s := range map[string]registry.WebhookSecrets{
		"Current":  {Current: secret.New("hush-hush")},
		"Replaced": {Current: secret.New(whsec), Replaced: []registry.ReplacedSecret{{Secret: secret.New("hush-hush"), Until: until}}},
	} {
		e := &registry.Entry{Rec: registry.AppRecord{App: partner.New("app1")}, Secrets: s}
		_, err := push.NewTargets(over(&recorder{}, time.Second), partner.Online).PrepareAttempt(e, time.Now())
		if err == nil || !strings.Contains(err.Error(), "app1") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
