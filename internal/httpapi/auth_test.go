package httpapi_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/registry"
)

func TestAuthenticationRefuses(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.tokens[httpapi.HashToken("lmp_old")] = registry.Token{Role: "admin", ExpiresAt: start}
	h.tokens[httpapi.HashToken("lmp_gone")] = registry.Token{Role: "admin", RevokedAt: start}
	h.tokens[httpapi.HashToken("lmp_later")] = registry.Token{Role: "admin", ExpiresAt: start.Add(time.Nanosecond)}
	for _, test := range []struct {
		header string
		want   int
	}{
		{"", 401},
		{"Bearer lmp_later", 200},
		{"bearer lmp_admin", 200},
		{"Bearer lmp_old", 401},
		{"Bearer lmp_gone", 401},
		{"Bearer lmp_nobody", 401},
		{"Basic lmp_admin", 401},
		{"Bearer", 401},
		{"Bearer  lmp_admin", 401},
		{"Bearer lmp_adm\x01in", 401},
		{"Bearer " + strings.Repeat("x", 10_000), 401},
	} {
		rec := h.do(request{method: "GET", path: "/v1/apps", header: map[string]string{"Authorization": test.header}})
		if test.header == "" {
			rec = h.do(request{method: "GET", path: "/v1/apps"})
		}
		if rec.Code != test.want {
			t.Errorf("Authorization %.20q = %d, want %d", test.header, rec.Code, test.want)
		}
		if got := rec.Header().Get("WWW-Authenticate"); (rec.Code == 401) != strings.HasPrefix(got, `Bearer realm="lamplighter"`) {
			t.Errorf("Authorization %.20q: WWW-Authenticate %q", test.header, got)
		}
	}
}

func TestRevocationHoldsForTheNextRequest(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	list := request{method: "GET", path: "/v1/apps", role: "operator"}
	h.want(t, 200, list)
	h.tokens[httpapi.HashToken(tokenOf("operator"))] = registry.Token{Role: "operator", RevokedAt: start}
	h.want(t, 401, list)
}

func TestWrongTokensAreSlowed(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	guess := func(n int) request {
		return request{method: "GET", path: "/v1/apps", from: "192.0.2.1:1", header: map[string]string{"Authorization": fmt.Sprintf("Bearer lmp_guess%d", n)}}
	}
	h.want(t, 200, request{method: "GET", path: "/v1/apps", role: "admin", from: "192.0.2.1:1"})
	codes := map[int]int{}
	for n := range 30 {
		rec := h.do(guess(n))
		codes[rec.Code]++
		if rec.Code == 429 && rec.Header().Get("Retry-After") == "" {
			t.Fatal("429 without Retry-After")
		}
	}
	if codes[401] != 10 || codes[429] != 20 {
		t.Errorf("codes = %v, want 10 x 401 and 20 x 429", codes)
	}
	if h.lookups != 11 {
		t.Errorf("%d look-ups, want 11: guesses of a refused address must cost nothing", h.lookups)
	}
	// A token that was good lately works from the same address, one that was never seen does not.
	h.want(t, 200, request{method: "GET", path: "/v1/apps", role: "admin", from: "192.0.2.1:1"})
	h.want(t, 429, request{method: "GET", path: "/v1/apps", role: "operator", from: "192.0.2.1:1"})
	h.want(t, 200, request{method: "GET", path: "/v1/apps", role: "operator", from: "192.0.2.2:1"})
	h.advance(time.Minute)
	h.want(t, 200, request{method: "GET", path: "/v1/apps", role: "operator", from: "192.0.2.1:1"})
}

func TestNewToken(t *testing.T) {
	t.Parallel()
	token, err := httpapi.NewToken(bytes.NewReader(make([]byte, 32)))
	if err != nil || token != "lmp_"+strings.Repeat("A", 43) {
		t.Errorf("NewToken = %q, %v", token, err)
	}
	if _, err := httpapi.NewToken(bytes.NewReader(make([]byte, 31))); err == nil {
		t.Error("a token out of too little randomness")
	}
	if got := httpapi.HashToken("abc"); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("HashToken = %s", got)
	}
}

// TestOneTokenIsBounded: a partner that sends requests in a loop is slowed, and no other caller is.
func TestOneTokenIsBounded(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	mine := request{method: "GET", path: "/v1/apps", role: "partner:app1"}
	for range 200 {
		h.want(t, 200, mine)
	}
	if rec := h.do(mine); rec.Code != 429 || rec.Header().Get("Retry-After") == "" {
		t.Errorf("the 201st = %d", rec.Code)
	}
	h.want(t, 200, request{method: "GET", path: "/v1/apps", role: "partner:other"})
	h.want(t, 200, request{method: "GET", path: "/v1/apps", role: "operator"})
	h.advance(time.Second)
	for range 50 {
		h.want(t, 200, mine)
	}
	h.want(t, 429, mine)
}

// TestGoodTokensGetIn: no number of wrong tokens, from however many addresses, keeps others' good tokens
// out, nor do the wrong ones of an address keep out any of many that were good there.
func TestGoodTokensGetIn(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ask := func(token, from string) int {
		return h.answer(request{method: "GET", path: "/v1/apps", from: from, header: map[string]string{"Authorization": "Bearer " + token}}).Code
	}
	codes := map[int]int{}
	for n := range 16_000 {
		codes[ask(fmt.Sprintf("lmp_wrong%d", n), fmt.Sprintf("[2001:db8:1:%x::1]:1", n))]++
	}
	t.Logf("16,000 wrong tokens from a /48: %v", codes)
	if codes[401] > 101 {
		t.Errorf("%d of them were looked up", codes[401])
	}
	if got := ask(tokenOf("admin"), "[2001:db8:2::1]:1"); got != 200 {
		t.Errorf("a good token from another /48 = %d", got)
	}
	for n := range 30_000 { // more addresses than are remembered
		ask("lmp_wrong", fmt.Sprintf("198.%d.%d.%d:1", 18+n/65536, n/256%256, n%256))
	}
	if got := ask(tokenOf("operator"), "192.0.2.77:1"); got != 200 {
		t.Errorf("a good token from an address never seen = %d", got)
	}
	const tokens, shared = 20_000, "203.0.113.1:1"
	for n := range tokens {
		h.tokens[httpapi.HashToken(fmt.Sprintf("lmp_good%d", n))] = registry.Token{ID: strconv.Itoa(n), Role: "operator"}
		if got := ask(fmt.Sprintf("lmp_good%d", n), shared); got != 200 {
			t.Fatalf("good token %d = %d", n, got)
		}
	}
	for n := range 20 {
		ask(fmt.Sprintf("lmp_bad%d", n), shared)
	}
	for n := range tokens {
		if got := ask(fmt.Sprintf("lmp_good%d", n), shared); got != 200 {
			t.Fatalf("good token %d behind an address with wrong ones = %d", n, got)
		}
	}
}

// TestOneTokenAtOnce: a partner's token has four requests under way, the next ones wait for a second, and
// others do not.
func TestOneTokenAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t).withApp(t)
		h.want(t, 200, request{method: "GET", path: "/v1/apps", role: "partner:app1"}) // its factor is known
		h.held = make(chan struct{})
		codes := make(chan int)
		ask := func(role string) { codes <- h.answer(request{method: "GET", path: "/v1/apps", role: role}).Code }
		for range 4 {
			go ask("partner:app1")
		}
		synctest.Wait()
		before := time.Now()
		for range 40 { // 32 of them wait
			go ask("partner:app1")
		}
		synctest.Wait()
		for range 8 {
			if got := <-codes; got != 429 {
				t.Errorf("one of too many that wait = %d", got)
			}
		}
		if took := time.Since(before); took != 0 {
			t.Errorf("they were told after %v", took)
		}
		for range 32 {
			if got := <-codes; got != 429 {
				t.Errorf("one that waited = %d", got)
			}
		}
		if took := time.Since(before); took != time.Second {
			t.Errorf("the others were told after %v", took)
		}
		go ask("partner:app1")
		go ask("partner:other")
		go ask("operator")
		synctest.Wait()
		close(h.held)
		for range 7 {
			if got := <-codes; got != 200 {
				t.Errorf("one that has a place = %d", got)
			}
		}
		h.hasMetric(t, `lamplighter_budget_refusals_total{budget="requests_at_once",role="partner"} 40`)
	})
}
