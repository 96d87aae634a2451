package httpapi_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/lamplighter/lamplighter/internal/registry"
)

func keyed(r request, key string) request {
	r.header = map[string]string{"Idempotency-Key": key}
	return r
}

// TestEveryPostIsRepeatable sends each POST twice under a key: the second answer is the first, and
// nothing is written again.
func TestEveryPostIsRepeatable(t *testing.T) {
	t.Parallel()
	posts := 0
	for _, op := range newHarness(t).api.Operations() {
		if op.Method != http.MethodPost || len(op.Roles) == 0 { // the pages of mails may be repeated without a key
			continue
		}
		posts++
		t.Run(op.ID, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t).withERP(t)
			r := keyed(sample(op.ID), "k")
			r.method, r.path, r.role = op.Method, pathOf(op), "admin"
			first := h.do(r)
			if first.Code >= 300 {
				t.Fatalf("= %d %s", first.Code, first.Body)
			}
			written := len(h.actions) + len(h.tokens) + len(h.accepted) + len(h.reports) + h.tried
			second := h.do(r)
			if first.Header().Get("Idempotent-Replayed") != "" || second.Header().Get("Idempotent-Replayed") != "true" {
				t.Errorf("marked as repeated: first %q, then %q", first.Header().Get("Idempotent-Replayed"), second.Header().Get("Idempotent-Replayed"))
			}
			if op.ID == "postErrorReports" { // says for itself that it was sent before
				if second.Body.String() != "{\"replayed\":true}\n" {
					t.Errorf("repeated: %s", second.Body)
				}
			} else if first.Code != second.Code || first.Body.String() != second.Body.String() || first.Header().Get("ETag") != second.Header().Get("ETag") {
				t.Errorf("first %d %s\nthen %d %s", first.Code, first.Body, second.Code, second.Body)
			}
			if again := len(h.actions) + len(h.tokens) + len(h.accepted) + len(h.reports) + h.tried; again != written && op.ID != "postStateChanges" && op.ID != "postErrorReports" {
				t.Errorf("%d writes became %d", written, again)
			}
			other := r
			other.path += "?x=1"
			if op.ID == "postStateChanges" || op.ID == "postErrorReports" {
				other.path, other.body = r.path, strings.Replace(r.body, "Cust1", "Cust2", 1)
			}
			if got := h.do(other); got.Code != http.StatusConflict || !strings.Contains(got.Body.String(), "idempotency-key-reused") {
				t.Errorf("another request under the key = %d %s", got.Code, got.Body)
			}
		})
	}
	if posts < 9 {
		t.Errorf("only %d operations", posts)
	}
}

func TestOnceReplays(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withApp(t)
	r := keyed(request{method: "POST", path: "/v1/tokens", role: "admin", body: `{"name":"Kim","role":"operator"}`}, "k")
	first := h.do(r)
	r.body = `{ "role" : "operator", "name" : "\u004bim" }`
	second := h.do(r)
	if first.Body.String() != second.Body.String() || second.Header().Get("Idempotent-Replayed") != "true" || first.Header().Get("Idempotent-Replayed") != "" {
		t.Errorf("%s\nthen %s %v", first.Body, second.Body, second.Header())
	}
	if first.Header().Get("Location") != second.Header().Get("Location") || first.Header().Get("X-Request-Id") == second.Header().Get("X-Request-Id") {
		t.Errorf("%v\nthen %v", first.Header(), second.Header())
	}
	// Another caller's key of the same name is another key, and a repeat needs the right still.
	pause := keyed(request{method: "POST", path: "/v1/apps/app1/pause", role: "admin"}, "k2")
	h.want(t, 200, pause)
	pause.role = "operator"
	if rec := h.do(pause); rec.Code != 200 || rec.Header().Get("Idempotent-Replayed") != "" {
		t.Errorf("another caller = %d %v", rec.Code, rec.Header())
	}
	pause.role = "platform"
	h.want(t, 403, pause)
}

// TestOnceForgetsFailures: a request that was refused may be put right under its key.
func TestOnceForgetsFailures(t *testing.T) {
	t.Parallel()
	outcomes := &fakeOutcomes{kept: map[string]*keptOutcome{}}
	h := newHarness(t, func(d *deps) { d.IdempotencyStore = outcomes }).withApp(t)
	token := keyed(request{method: "POST", path: "/v1/tokens", role: "admin", body: `{"name":"Kim","role":"boss"}`}, "k")
	h.want(t, 422, token)
	token.body = `{"name":"Kim","role":"operator"}`
	h.want(t, 201, token)

	pause := keyed(request{method: "POST", path: "/v1/apps/app1/pause", role: "admin"}, "k2")
	h.down = errDown
	h.want(t, 503, pause)
	h.down = nil
	h.panics = true
	h.want(t, 500, pause)
	h.panics = false
	h.want(t, 200, pause)

	outcomes.settleErr = errDown // done, but not kept: the caller is told what happened all the same
	h.want(t, 200, keyed(pause, "k3"))
	if !strings.Contains(h.log.String(), "was not stored") {
		t.Error("the log does not say that the answer was not stored")
	}
	outcomes.settleErr = nil
	h.want(t, 409, keyed(pause, "k3")) // until the run's claim ends
	for _, bad := range []string{"", "a b", strings.Repeat("k", 256)} {
		h.want(t, 400, keyed(pause, bad))
	}
	h.want(t, 400, keyed(request{method: "POST", path: "/v1/apps/app1/pause", role: "admin", body: `{`}, "k4"))

	outcomes.full = true
	if rec := h.do(keyed(pause, "k5")); rec.Code != 429 || rec.Header().Get("Retry-After") != "3600" {
		t.Errorf("too many keys = %d %v", rec.Code, rec.Header())
	}
	outcomes.full, outcomes.err = false, errDown
	h.want(t, 503, keyed(pause, "k6"))
	outcomes.err = errors.Join(registry.ErrUnreadable)
	h.want(t, 409, keyed(pause, "k7"))
}

// TestOnceAtATime: of those that send the same request together, one runs; the others wait or get
// its answer.
func TestOnceAtATime(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	outcomes := &fakeOutcomes{kept: map[string]*keptOutcome{}, beforeSettle: func() {
		once.Do(func() { close(entered) })
		<-leave
	}}
	h := newHarness(t, func(d *deps) { d.IdempotencyStore = outcomes }).withApp(t)
	r := keyed(request{method: "POST", path: "/v1/apps/app1/secrets", role: "admin"}, "k")
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- h.answer(r) }()
	<-entered
	busy := h.do(r)
	if busy.Code != 409 || !strings.Contains(busy.Body.String(), "idempotency-key-busy") || busy.Header().Get("Retry-After") != "2" {
		t.Errorf("meanwhile = %d %s", busy.Code, busy.Body)
	}
	close(leave)
	done := <-first
	if again := h.do(r); again.Code != 200 || again.Body.String() != done.Body.String() {
		t.Errorf("= %d %s, after %d %s", again.Code, again.Body, done.Code, done.Body)
	}
}

// TestOnceOnTheRealStore rotates a secret twice under a key: one rotation, sealed at rest.
func TestOnceOnTheRealStore(t *testing.T) {
	t.Parallel()
	h, store := newStoreHarness(t)
	h.withApp(t)
	r := keyed(request{method: "POST", path: "/v1/apps/app1/secrets", role: "partner:app1"}, "k")
	first, second := h.do(r), h.do(r)
	if first.Code != 200 || first.Body.String() != second.Body.String() {
		t.Fatalf("first %d %s\nthen %d %s", first.Code, first.Body, second.Code, second.Body)
	}
	now, err := store.Secrets(t.Context(), "app1")
	if err != nil || !strings.Contains(first.Body.String(), now.Current.Reveal()) || len(now.Replaced) != 1 {
		t.Errorf("%d replaced secrets, %v", len(now.Replaced), err)
	}
}
