package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/storewatch"
)

type pastKey struct{}

// fakeWatch watches the world's store.
type fakeWatch struct{ *world }

func (w fakeWatch) ChangedMessage() string {
	defer w.lock()()
	return w.changed
}

func (w fakeWatch) Confirm(context.Context) error {
	defer w.lock()()
	return w.confirmed
}

func (fakeWatch) AllowChangedStore(ctx context.Context) context.Context {
	return context.WithValue(ctx, pastKey{}, true)
}

func (w fakeWatch) Accept(ctx context.Context, actor registry.Actor) (storewatch.Accepted, error) {
	defer w.lock()()
	if ctx.Value(pastKey{}) == nil {
		return storewatch.Accepted{}, errors.New("the call cannot pass the gate")
	}
	if err := errors.Join(w.down, w.acceptErr); err != nil {
		return storewatch.Accepted{}, err
	}
	w.changed, w.confirmed = "", nil
	w.audited = append(w.audited, registry.AuditEntry{Action: "store.accept", Actor: actor.Name, RequestID: actor.RequestID})
	return storewatch.Accepted{Identity: "GNJ4DCS2PUMRVBVWBNLJSXN7JV", Found: "gone"}, nil
}

// lose makes the watch say that the store changed.
func (w *world) lose() {
	defer w.lock()()
	w.changed, w.confirmed = "the store is gone", fmt.Errorf("%w: it is gone", storewatch.ErrChanged)
}

func wantChanged(t *testing.T, h *harness, r request) {
	t.Helper()
	rec := h.do(r)
	if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") != "10" || !strings.Contains(rec.Body.String(), `"urn:lamplighter:problem:store-changed"`) {
		t.Errorf("%s %s as %q = %d %v %s, want 503 store-changed", r.method, r.path, r.role, rec.Code, rec.Header(), rec.Body)
	}
}

// TestChangedStoreIsNotUsed: every operation that needs the store is refused, whoever calls, before anything
// is looked up; what needs none goes on.
func TestChangedStoreIsNotUsed(t *testing.T) {
	t.Parallel()
	h := newHarness(t).withERP(t)
	h.lose()
	lookups := h.lookups
	refused := 0
	for _, op := range h.api.Operations() {
		r := sample(op.ID)
		r.method, r.path = op.Method, pathOf(op)
		if slices.Contains([]string{"getDiscovery", "getJWKS", "getOpenAPI", "getDocs"}, op.ID) {
			if got := h.do(r).Code; got != http.StatusOK {
				t.Errorf("%s = %d", op.ID, got)
			}
			continue
		}
		if op.ID == "acceptStore" {
			continue
		}
		for _, role := range []string{"admin", "unknown", ""} {
			r.role = role
			wantChanged(t, h, r)
			refused++
		}
	}
	if h.lookups != lookups {
		t.Errorf("%d tokens were looked up", h.lookups-lookups)
	}
	t.Logf("%d calls refused", refused)
}

func TestAcceptStore(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.lose()
	accept := func(role string) request { return request{method: "POST", path: "/v1/store/accept", role: role} }
	h.want(t, http.StatusForbidden, accept("operator"))
	rec := h.do(accept("unknown"))
	if rec.Code != http.StatusUnauthorized || !strings.Contains(rec.Body.String(), "bootstrap token") {
		t.Errorf("an unknown token = %d %s", rec.Code, rec.Body)
	}
	h.want(t, http.StatusUnprocessableEntity, request{method: "POST", path: "/v1/store/accept", role: "admin", body: `{"x":1}`})
	for _, err := range []error{registry.ErrOtherEnvironment, registry.ErrNewerFormat} {
		h.acceptErr = fmt.Errorf("claim: %w", err)
		if got := h.want(t, http.StatusConflict, accept("admin")); got["type"] != "urn:lamplighter:problem:store-not-ours" {
			t.Errorf("%v = %v", err, got)
		}
	}
	h.acceptErr = nil
	if got := h.want(t, http.StatusOK, accept("admin")); got["found"] != "gone" || got["identity"] == "" {
		t.Errorf("= %v", got)
	}
	if len(h.audited) != 1 || h.audited[0].Actor != "admin token" || h.audited[0].RequestID == "" {
		t.Errorf("audited %+v", h.audited)
	}
	h.want(t, http.StatusOK, request{method: "GET", path: "/v1/apps", role: "admin"})
}

// TestNothingIsMissingUntilConfirmed: in the second before the loss is noticed nobody is told that their
// token or tenant does not exist.
func TestNothingIsMissingUntilConfirmed(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	token, pull := request{method: "GET", path: "/v1/apps", role: "unknown"}, request{method: "GET", path: "/api/state/Cust404"}
	h.want(t, http.StatusUnauthorized, token)
	h.want(t, http.StatusNotFound, pull)
	h.confirmed = fmt.Errorf("%w: it is gone", storewatch.ErrChanged)
	wantChanged(t, h, token)
	wantChanged(t, h, pull)
	h.confirmed = io.EOF // the look failed: nothing is decided
	for _, r := range []request{token, pull} {
		if got := h.want(t, http.StatusServiceUnavailable, r); got["type"] != "urn:lamplighter:problem:unavailable" {
			t.Errorf("%s = %v", r.path, got)
		}
	}
	// ids that cannot be need no look
	h.want(t, http.StatusNotFound, request{method: "GET", path: "/api/state/%7Bx%7D"})
}

// TestErrorsOfTheGate: a request that was under way when the store changed is answered alike.
func TestErrorsOfTheGate(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.down = fmt.Errorf("read: %w: it is gone", storewatch.ErrChanged)
	wantChanged(t, h, request{method: "GET", path: "/v1/apps", role: "admin"})
}

// TestReadyWithWarning: a warning keeps the service ready.
func TestReadyWithWarning(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ops := h.api.OpsHandler(httpapi.OpsOptions{Readiness: func(context.Context) []httpapi.Check {
		return []httpapi.Check{{Name: "store", Warning: "it went back"}}
	}})
	rec := httptest.NewRecorder()
	ops.ServeHTTP(rec, request{method: "GET", path: "/readyz"}.make())
	const want = `{"ready":true,"checks":[{"name":"store","ok":true,"warning":"it went back"}]}`
	if rec.Code != http.StatusOK || strings.TrimSpace(rec.Body.String()) != want {
		t.Errorf("= %d %s", rec.Code, rec.Body)
	}
}
