package httpapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/registry"
)

func TestTokenIsMadeUsedListedAndRevoked(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	made := h.want(t, 201, request{method: "POST", path: "/v1/tokens", role: "admin", body: `{"name":"Kim's laptop","role":"partner:app1","expires_at":"2026-12-24T00:00:00Z"}`})
	secret, _ := made["token"].(string)
	id, _ := made["id"].(string)
	if !strings.HasPrefix(secret, "lmp_") || len(secret) != 47 || !strings.HasPrefix(id, "tok_") || made["prefix"] != secret[:10] {
		t.Fatalf("made %v", made)
	}
	if made["state"] != "valid" || made["role"] != "partner:app1" || made["expires_at"] != "2026-12-24T00:00:00Z" {
		t.Errorf("made %v", made)
	}
	with := func(path string) request {
		return request{method: "GET", path: path, header: map[string]string{"Authorization": "Bearer " + secret}}
	}
	h.want(t, 200, with("/v1/apps"))
	h.want(t, 403, with("/v1/apps/other"))
	h.want(t, 403, with("/v1/tokens"))
	one := h.do(request{method: "GET", path: "/v1/tokens/" + id, role: "admin"})
	list := h.do(request{method: "GET", path: "/v1/tokens", role: "admin"})
	for _, rec := range []*httptest.ResponseRecorder{one, list} {
		if rec.Code != 200 || strings.Contains(rec.Body.String(), secret) || !strings.Contains(rec.Body.String(), id) {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	}
	if rec := h.do(request{method: "DELETE", path: "/v1/tokens/" + id, role: "admin"}); rec.Code != 204 {
		t.Fatalf("revoke = %d %s", rec.Code, rec.Body)
	}
	h.want(t, 401, with("/v1/apps"))
	if got := h.want(t, 200, request{method: "GET", path: "/v1/tokens/" + id, role: "admin"}); got["state"] != "revoked" || got["revoked_at"] == nil {
		t.Errorf("revoked %v", got)
	}
	h.want(t, 404, request{method: "GET", path: "/v1/tokens/tok_0", role: "admin"})
	h.want(t, 404, request{method: "DELETE", path: "/v1/tokens/%00", role: "admin"})
	if strings.Contains(h.log.String(), secret) {
		t.Error("the log holds the token")
	}
}

func TestTokenRules(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, test := range []struct {
		body string
		want []string
	}{
		{`{}`, []string{"/name", "/role"}},
		{`{"name":"","role":"root"}`, []string{"/name", "/role"}},
		{`{"name":"a\nb","role":"partner"}`, []string{"/name", "/role"}},
		{`{"name":"` + strings.Repeat("ø", 201) + `","role":"partner:a b"}`, []string{"/name", "/role"}},
		{`{"name":"a","role":"admin","expires_at":"2026-11-24T10:15:30Z"}`, []string{"/expires_at"}},
		{`{"name":"a","role":"admin","expires_at":"2029-11-24T10:15:30Z"}`, []string{"/expires_at"}},
		{`{"name":"a","role":"admin","expires_at":7,"token":"lmp_mine"}`, []string{"/expires_at", "/token"}},
	} {
		got := pointers(h.want(t, 422, request{method: "POST", path: "/v1/tokens", role: "admin", body: test.body}))
		slices.Sort(got)
		if !slices.Equal(got, test.want) {
			t.Errorf("%.60s: pointers %v, want %v", test.body, got, test.want)
		}
	}
	made := h.want(t, 201, request{method: "POST", path: "/v1/tokens", role: "admin", body: `{"name":"a","role":"admin"}`})
	if made["expires_at"] != start.Add(90*24*time.Hour).Format(time.RFC3339Nano) {
		t.Errorf("ends at %v unless told", made["expires_at"])
	}
}

func TestTokenPages(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	clear(h.tokens)
	for n := range 10 {
		tok := registry.Token{ID: fmt.Sprintf("t%d", n), Name: "n", Role: "operator", CreatedAt: start.Add(time.Duration(n/3) * time.Second)}
		if n%2 == 1 {
			tok.ExpiresAt = start
		}
		h.tokens[strconv.Itoa(n)] = tok
	}
	h.tokens[httpapi.HashToken("lmp_admin")] = registry.Token{ID: "a", Name: "a", Role: "admin", CreatedAt: start.Add(-time.Hour)}
	walk := func(query string) (ids []string) {
		for next := ""; ; {
			page := h.want(t, 200, request{method: "GET", path: "/v1/tokens?limit=2&cursor=" + next + query, role: "admin"})
			for _, item := range page["items"].([]any) {
				ids = append(ids, item.(map[string]any)["id"].(string))
			}
			delete(h.tokens, "0") // the list goes on behind what is gone
			if next, _ = page["next_cursor"].(string); next == "" {
				return ids
			}
		}
	}
	if got := walk(""); strings.Join(got, " ") != "a t0 t1 t2 t3 t4 t5 t6 t7 t8 t9" {
		t.Errorf("pages hold %v", got)
	}
	if got := walk("&state=expired&role=operator"); strings.Join(got, " ") != "t1 t3 t5 t7 t9" {
		t.Errorf("expired: %v", got)
	}
	if got := walk("&role=admin&state=valid"); strings.Join(got, " ") != "a" {
		t.Errorf("admins: %v", got)
	}
	for _, query := range []string{"state=good", "role=root"} {
		h.want(t, 422, request{method: "GET", path: "/v1/tokens?" + query, role: "admin"})
	}
}

// TestTokenUseIsCoarse: a look-up is all that a request costs, but for one write a minute.
func TestTokenUseIsCoarse(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for range 5 {
		h.want(t, 200, request{method: "GET", path: "/v1/apps", role: "operator"})
	}
	h.advance(time.Minute)
	h.want(t, 200, request{method: "GET", path: "/v1/apps", role: "operator"})
	h.want(t, 401, request{method: "GET", path: "/v1/apps", header: map[string]string{"Authorization": "Bearer lmp_none"}})
	if got := strings.Join(h.uses, ", "); got != "operator 10:15:30, operator 10:16:30" {
		t.Errorf("uses %s", got)
	}
}

// TestRevocationStopsABodyThatKeepsComing: a caller that sends lines for hours is looked up again.
func TestRevocationStopsABodyThatKeepsComing(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	srv := httptest.NewServer(h.handler)
	defer srv.Close()
	body, pipe := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/v1/state-changes", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tokenOf("platform"))
	req.Header.Set("Content-Type", "application/x-ndjson")
	send := func(tenant string) {
		if _, err := io.WriteString(pipe, `{"tenant":"`+tenant+`","change_type":"suspend"}`+"\n"); err != nil {
			t.Error(err)
		}
	}
	go send("Cust1")
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answers := json.NewDecoder(resp.Body)
	read := func() (a answerLine) {
		if err := answers.Decode(&a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	if first := read(); first.Status != 202 {
		t.Fatalf("first line: %+v", first)
	}
	h.want(t, 204, request{method: "DELETE", path: "/v1/tokens/platform", role: "admin"})
	h.advance(time.Second)
	send("Cust2")
	if second := read(); second.Status != 401 || !strings.Contains(second.Detail, "revoked") {
		t.Errorf("second line: %+v", second)
	}
	_ = pipe.Close()
	if len(h.accepted) != 1 {
		t.Errorf("accepted %v", h.accepted)
	}
}
