package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
)

type desk struct {
	did []string
	// world may be down; nil never is.
	world *world
}

func (d *desk) down() error {
	if d.world == nil {
		return nil
	}
	return d.world.down
}

func (d *desk) Unsubscribe(_ context.Context, token string, change mailer.LinkAction) ([]partner.ClientID, error) {
	switch token {
	case "bad":
		return nil, mailer.ErrBadLink
	case "down":
		return nil, errors.New("redis away: secret-detail")
	}
	if err := d.down(); err != nil {
		return nil, err
	}
	d.did = append(d.did, fmt.Sprintf("unsubscribe %s %d", token, change))
	return []partner.ClientID{"app1"}, nil
}

func (d *desk) BlockConfirmations(_ context.Context, token string, change mailer.LinkAction) error {
	if token == "bad" {
		return mailer.ErrBadLink
	}
	if err := d.down(); err != nil {
		return err
	}
	d.did = append(d.did, fmt.Sprintf("never ask %s %d", token, change))
	return nil
}

func (d *desk) Confirm(_ context.Context, token string, commit bool) (partner.ClientID, error) {
	switch token {
	case "bad":
		return "", mailer.ErrBadLink
	case "old":
		return "", mailer.ErrOldLink
	}
	if err := d.down(); err != nil {
		return "", err
	}
	d.did = append(d.did, fmt.Sprintf("confirm %s %v", token, commit))
	return "app1", nil
}

func TestMailPages(t *testing.T) {
	t.Parallel()
	d := &desk{}
	h := newHarness(t, func(all *deps) { all.MailSubscriptions = d })
	pages := h.api.PublicHandler()
	visit := func(method, path, form string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, r)
		return w
	}
	for _, tt := range []struct {
		method, path, form string
		status             int
		says               string
	}{
		{"GET", "/mail/unsubscribe/t1", "", 200, "Unsubscribe?"},
		{"HEAD", "/mail/unsubscribe/t1", "", 200, ""},
		{"POST", "/mail/unsubscribe/t1", "List-Unsubscribe=One-Click", 200, "You are unsubscribed"},
		{"POST", "/mail/unsubscribe/t1", "undo=1", 200, "You get the mail again"},
		{"GET", "/mail/unsubscribe/t1?undo=1", "", 200, "Unsubscribe?"},
		{"POST", "/mail/unsubscribe/t1", strings.Repeat("x", 10_000), 200, "You are unsubscribed"},
		{"GET", "/mail/confirm/t2", "", 200, "Yes, confirm"},
		{"POST", "/mail/confirm/t2", "", 200, "Confirmed"},
		{"GET", "/mail/confirm/old", "", 410, "This link is outdated"},
		{"POST", "/mail/confirm/old", "", 410, "Use the newest mail"},
		{"GET", "/mail/never-ask/t3", "", 200, "Never be asked again?"},
		{"POST", "/mail/never-ask/t3", "List-Unsubscribe=One-Click", 200, "You are not asked again"},
		{"POST", "/mail/never-ask/t3", "undo=1", 200, "You can be asked again"},
		{"GET", "/mail/never-ask/t3?undo=1", "", 200, "Never ask me again"},
		{"POST", "/mail/never-ask/bad", "", 404, "does not work"},
		{"GET", "/mail/unsubscribe/bad", "", 404, "does not work"},
		{"POST", "/mail/confirm/bad", "", 404, "does not work"},
		{"POST", "/mail/unsubscribe/down", "", 503, "try again"},
		{"DELETE", "/mail/unsubscribe/t1", "", 405, ""},
		{"GET", "/mail/other/t1", "", 404, ""},
	} {
		w := visit(tt.method, tt.path, tt.form)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) || strings.Contains(w.Body.String(), "secret-detail") {
			t.Errorf("%s %s: %d\n%s", tt.method, tt.path, w.Code, w.Body)
		}
		if w.Code == http.StatusOK && (w.Header().Get("Cache-Control") != "no-store" || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'")) {
			t.Errorf("%s %s: header %v", tt.method, tt.path, w.Header())
		}
	}
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); f.GetName() == "lamplighter_http_requests_total" && strings.HasPrefix(l[2].GetValue(), "/mail/") && m.GetCounter().GetValue() > 0 {
				counted[l[1].GetValue()+" "+l[2].GetValue()+" "+l[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if diff := cmp.Diff(map[string]float64{
		"GET /mail/unsubscribe/{token} 200": 3, "GET /mail/unsubscribe/{token} 404": 1, "POST /mail/unsubscribe/{token} 200": 3,
		"POST /mail/unsubscribe/{token} 503": 1, "GET /mail/confirm/{token} 200": 1, "POST /mail/confirm/{token} 200": 1, "POST /mail/confirm/{token} 404": 1,
		"GET /mail/confirm/{token} 410": 1, "POST /mail/confirm/{token} 410": 1, "GET /mail/never-ask/{token} 200": 2, "POST /mail/never-ask/{token} 200": 2, "POST /mail/never-ask/{token} 404": 1,
	}, counted); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	want := []string{
		"unsubscribe t1 0", "unsubscribe t1 0", "unsubscribe t1 1", "unsubscribe t1 2", "unsubscribe t1 0", "unsubscribe t1 1",
		"confirm t2 false", "confirm t2 true", "never ask t3 0", "never ask t3 1", "never ask t3 2", "never ask t3 0",
	}
	if diff := cmp.Diff(want, d.did); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
}
