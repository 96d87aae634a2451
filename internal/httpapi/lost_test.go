package httpapi_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestFiftyWritersLoseNothing: 50 writers add one address each to one app, with If-Match. A loser gets 412,
// reads again and tries again; in the end each address that was answered with 200 stands there,
// and the app was written as often as it was answered.
func TestFiftyWritersLoseNothing(t *testing.T) {
	t.Parallel()
	h, _ := newStoreHarness(t)
	h.want(t, 201, request{method: "PUT", path: "/v1/apps/app1", role: "admin", body: appBody})
	const writers = 50
	var lost, won atomic.Int64
	var work sync.WaitGroup
	for n := range writers {
		work.Go(func() {
			for {
				read := h.do(request{method: "GET", path: "/v1/apps/app1", role: "admin"})
				tag := read.Header().Get("ETag")
				name := nameOf(read.Body.String())
				rec := h.do(request{
					method: "PATCH", path: "/v1/apps/app1", role: "admin", body: fmt.Sprintf(`{"name":%q}`, name+","+strconv.Itoa(n)),
					header: map[string]string{"If-Match": tag},
				})
				switch rec.Code {
				case 200:
					won.Add(1)
					return
				case 412:
					lost.Add(1)
				default:
					t.Errorf("writer %d: %d %s", n, rec.Code, rec.Body)
					return
				}
			}
		})
	}
	work.Wait()
	got := h.want(t, 200, request{method: "GET", path: "/v1/apps/app1", role: "admin"})
	all := strings.Split(got["name"].(string), ",")[1:]
	seen := map[string]bool{}
	for _, s := range all {
		seen[s] = true
	}
	writes := strings.Count(h.do(request{method: "GET", path: "/v1/audit?client_id=app1&limit=500", role: "admin"}).Body.String(), `"action":"app.patch"`)
	if won.Load() != writers || len(all) != writers || len(seen) != writers || writes != writers {
		t.Errorf("%d writers won, %d of their updates stand there, %d writes", won.Load(), len(seen), writes)
	}
	t.Logf("%d updates, none lost; %d times 412", won.Load(), lost.Load())
}

func nameOf(app string) string {
	_, rest, _ := strings.Cut(app, `"name":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

// TestPreconditionIsNeverIgnored: an operation that has nothing to compare If-Match with refuses
// it, since its caller wants no write that it did not foresee.
func TestPreconditionIsNeverIgnored(t *testing.T) {
	t.Parallel()
	api := newHarness(t).api
	tried := 0
	for _, op := range api.Operations() {
		if op.Method == http.MethodGet {
			continue
		}
		tried++
		h := newHarness(t).withApp(t)
		r := sample(op.ID)
		r.method, r.path, r.role, r.header = op.Method, pathOf(op), "admin", map[string]string{"If-Match": `"999"`}
		if rec := h.do(r); rec.Code != 412 {
			t.Errorf("%s = %d %s", op.ID, rec.Code, rec.Body)
		}
		if h.revision != 1 || len(h.accepted) != 0 || len(h.approvals) != 0 || len(h.statuses) != 0 || len(h.audited) != 0 {
			t.Errorf("%s wrote", op.ID)
		}
	}
	t.Logf("%d operations", tried)
}
