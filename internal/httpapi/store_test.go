package httpapi_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// storeChanges is the intake without its fan-out.
type storeChanges struct{ *registry.Store }

func (s storeChanges) DeliveryStatus(ctx context.Context, id string) (intake.DeliveryStatus, error) {
	c, err := s.Change(ctx, id)
	return intake.DeliveryStatus{Change: c}, err
}

// newStoreHarness is an API whose apps, tenants, changes and audit are the real registry's.
func newStoreHarness(t *testing.T, change ...func(*deps)) (*harness, *registry.Store) {
	t.Helper()
	text, err := secret.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := secret.ParseKey(text.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	ring := secret.NewKeyring(key)
	store := registry.New(redistest.Mini(t), registry.Options{Keys: keys.New(""), Keyring: ring})
	return newHarness(t, slices.Insert(change, 0, func(d *deps) {
		d.Apps, d.writes.Store, d.Tenants, d.Statuses, d.Keys, d.Changes, d.Audit, d.Deliveries = store, store, store, store, store, storeChanges{store}, store, store
		d.IdempotencyStore, d.Auditor = store, store
	})...), store
}

func TestAppsOnTheRealStore(t *testing.T) {
	t.Parallel()
	h, store := newStoreHarness(t)
	made := h.want(t, 201, request{method: "PUT", path: "/v1/apps/app1", role: "admin", body: appBody})
	s, err := store.Secrets(t.Context(), "app1")
	if err != nil || s.Current.Reveal() != made["webhook_secret"] {
		t.Fatalf("stored secret: %v", err)
	}
	tag := map[string]string{"If-Match": fmt.Sprintf("%q", made["revision"])}
	h.want(t, 200, request{method: "PATCH", path: "/v1/apps/app1", role: "operator", body: `{"name":"B"}`, header: tag})
	h.want(t, 412, request{method: "PATCH", path: "/v1/apps/app1", role: "operator", body: `{"name":"C"}`, header: tag})
	got := h.want(t, 200, request{method: "GET", path: "/v1/apps/app1", role: "platform"})
	if got["name"] != "B" || got["revision"] == made["revision"] {
		t.Errorf("app = %v", got)
	}
	for n := range 5 {
		h.want(t, 201, request{method: "PUT", path: fmt.Sprintf("/v1/apps/more%d", n), role: "admin", body: `{"name":"M"}`})
	}
	seen, next := 0, ""
	for {
		page := h.want(t, 200, request{method: "GET", path: "/v1/apps?limit=4&cursor=" + next, role: "admin"})
		seen += len(page["items"].([]any))
		if next, _ = page["next_cursor"].(string); next == "" {
			break
		}
	}
	if seen != 6 {
		t.Errorf("%d apps over the pages", seen)
	}
	if rec := h.do(request{method: "DELETE", path: "/v1/apps/app1", role: "admin"}); rec.Code != 204 {
		t.Errorf("delete = %d %s", rec.Code, rec.Body)
	}
	h.want(t, 404, request{method: "GET", path: "/v1/apps/app1", role: "admin"})
	rec := h.do(request{method: "GET", path: "/v1/audit?client_id=app1", role: "operator"})
	if rec.Code != 200 || strings.Count(rec.Body.String(), `"subject":"app1"`) != 4 || strings.Contains(rec.Body.String(), "whsec_") {
		t.Errorf("audit = %s", rec.Body)
	}
}

func TestChangesOnTheRealStore(t *testing.T) {
	t.Parallel()
	h, store := newStoreHarness(t)
	h.want(t, 200, request{method: "PUT", path: "/v1/tenants/Cust1/status", role: "platform", body: `{"state":"Running","public_endpoint":"online3.superoffice.com"}`})
	suspend := request{method: "POST", path: "/v1/state-changes", role: "platform", body: `{"tenant":"Cust1","change_type":"suspend"}`, header: map[string]string{"Idempotency-Key": "k"}}
	first := h.want(t, 202, suspend)
	if again := h.want(t, 202, suspend); again["id"] != first["id"] || again["sequence"] != first["sequence"] {
		t.Errorf("a repeat gave %v after %v", again, first)
	}
	other := suspend
	other.body = `{"tenant":"Cust1","change_type":"resume"}`
	h.want(t, 409, other)
	state := h.want(t, 200, request{method: "GET", path: "/api/state/Cust1"})
	if state["State"] != "Suspended" || state["Endpoint"] != "https://online3.superoffice.com/Cust1" {
		t.Errorf("pull = %v", state)
	}
	if k := h.want(t, 200, request{method: "GET", path: "/v1/state-changes/" + first["id"].(string), role: "platform"}); k["change_type"] != "suspend" {
		t.Errorf("change = %v", k)
	}
	body := changeLines(0, 149)
	a, b := h.post(t, "k2", body), h.post(t, "k2", body)
	last := map[int]int64{}
	for i := range a {
		if a[i].Status != http.StatusAccepted || a[i].ID != b[i].ID {
			t.Fatalf("line %d: %+v, repeated %+v", i+1, a[i], b[i])
		}
		if a[i].Sequence <= last[i%50] {
			t.Fatalf("line %d went back in order", i+1)
		}
		last[i%50] = a[i].Sequence
	}
	if changes, err := store.Changes(t.Context(), tenant.ID("Cust7"), 100); err != nil || len(changes) != 3 {
		t.Errorf("%d changes of Cust7, want 3: %v", len(changes), err)
	}
	h.want(t, 404, request{method: "GET", path: "/api/state/Cust404"})
}
