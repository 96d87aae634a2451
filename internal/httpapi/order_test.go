package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// flaky is the intake over a store; of the changes that reach it, it fails some: before it records them,
// or after.
type flaky struct {
	storeChanges
	err error
	// fails says of the nth change, counted from 1, whether it fails.
	fails func(n int) bool
	// ran is true where what fails was recorded.
	ran bool

	n     int
	tried []string // "<tenant> <line>"
}

func (f *flaky) Accept(ctx context.Context, reqs []registry.ChangeRequest) ([]registry.AcceptResult, error) {
	out := make([]registry.AcceptResult, len(reqs))
	failed := map[tenant.ID]bool{}
	for i, r := range reqs {
		if failed[r.Tenant] {
			out[i].Err = fmt.Errorf("accept: %w", registry.ErrUndecided)
			continue
		}
		f.n++
		f.tried = append(f.tried, fmt.Sprint(r.Tenant, " ", r.Line))
		fails := f.fails != nil && f.fails(f.n)
		if !fails || f.ran {
			results, err := f.storeChanges.Accept(ctx, reqs[i:i+1])
			if err != nil {
				return nil, err
			}
			out[i] = results[0]
		}
		if fails {
			out[i] = registry.AcceptResult{Err: f.err}
			failed[r.Tenant] = true
		}
	}
	return out, nil
}

// chunked is a body whose reads end with each n lines, so that the body is cut into batches of them.
type chunked struct {
	lines []string
	n     int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.lines) == 0 {
		return 0, io.EOF
	}
	n := min(c.n, len(c.lines))
	text := strings.Join(c.lines[:n], "\n") + "\n"
	c.lines = c.lines[n:]
	return copy(p, text), nil
}

// postChunks sends lines that come n at a time.
func (h *harness) postChunks(key string, all []string, n int) *httptest.ResponseRecorder {
	r := request{method: "POST", path: "/v1/state-changes", role: "platform", body: "x", contentType: lines, header: map[string]string{"Idempotency-Key": key}}.make()
	r.ContentLength = -1
	r.Body = io.NopCloser(&chunked{lines: all, n: n})
	rec := httptest.NewRecorder()
	h.handler.ServeHTTP(rec, r)
	return rec
}

// TestTheDoorKeepsOrder: of the changes that reach the store some fail, with errors that are the store's or
// unexpected, before they are written and after. Whatever the body is cut into, none of a tenant is accepted
// behind one that failed, and the repeated body leaves every tenant with its last change as the newest.
func TestTheDoorKeepsOrder(t *testing.T) {
	t.Parallel()
	kinds := []string{"suspend", "resume", "upgrade", "delete"}
	var all []string
	for n := range 28 {
		all = append(all, fmt.Sprintf(`{"tenant":"Cust%d","change_type":%q}`, n%4, kinds[n/4%4]))
	}
	moved := errors.New("MOVED 1234 10.9.8.7:6379")
	for _, fault := range []struct {
		err error
		ran bool
	}{{errDown, false}, {errDown, true}, {moved, true}, {registry.ErrUnreadable, false}, {fewError(1), true}, {context.DeadlineExceeded, false}} {
		for _, n := range []int{1, 7, len(all)} {
			for name, fails := range map[string]func(int) bool{
				"EverySecond": func(n int) bool { return n%2 == 0 }, "TheSeventh": func(n int) bool { return n == 7 },
			} {
				t.Run(fmt.Sprintf("%.8s/ran=%t/%d/%s", fault.err, fault.ran, n, name), func(t *testing.T) {
					t.Parallel()
					keepsOrder(t, all, n, &flaky{err: fault.err, ran: fault.ran, fails: fails})
				})
			}
		}
	}
}

func keepsOrder(t *testing.T, all []string, n int, f *flaky) {
	h, store := newStoreHarness(t, func(d *deps) { f.storeChanges = d.Changes.(storeChanges); d.Changes = f })
	rec := h.postChunks("k", all, n)
	accepted := map[int]int64{}
	if rec.Code == http.StatusOK {
		failed := map[int]bool{}
		for _, a := range answersOf(t, rec.Body) {
			of := (a.Line - 1) % 4
			switch {
			case a.Status == http.StatusAccepted && failed[of]:
				t.Errorf("line %d was accepted behind a line of its tenant that failed", a.Line)
			case a.Status == http.StatusAccepted:
				accepted[a.Line] = a.Sequence
			case a.Status != http.StatusServiceUnavailable && failed[of]:
				t.Errorf("line %d behind one that failed = %+v, want 503", a.Line, a)
			case a.Status < http.StatusInternalServerError:
				t.Errorf("line %d = %+v", a.Line, a)
			case failed[of] && !strings.Contains(a.Detail, "again in this order"):
				t.Errorf("line %d is not told to be repeated in order: %+v", a.Line, a)
			}
			failed[of] = failed[of] || a.Status != http.StatusAccepted
		}
		if len(failed) == 0 {
			t.Error("nothing failed")
		}
	} else if rec.Code < http.StatusInternalServerError {
		t.Fatalf("= %d %s", rec.Code, rec.Body)
	}
	f.fails = nil
	again := answersOf(t, h.postChunks("k", all, n).Body)
	last := map[int]answerLine{}
	for _, a := range again {
		of := (a.Line - 1) % 4
		if a.Status != http.StatusAccepted || a.Sequence <= last[of].Sequence {
			t.Fatalf("repeated line %d = %+v after %+v", a.Line, a, last[of])
		}
		if first := accepted[a.Line]; first != 0 && first != a.Sequence {
			t.Errorf("line %d was accepted twice", a.Line)
		}
		last[of] = a
	}
	for of, a := range last {
		id := tenant.ID("Cust" + strconv.Itoa(of))
		v, err := store.Tenant(t.Context(), id)
		if err != nil || v.Record.Top != a.Sequence || v.Status.State != tenant.OfflineMaintenance {
			t.Errorf("%s ends as %v at %d, want its last line's, %d: %v", id, v.Status.State, v.Record.Top, a.Sequence, err)
		}
	}
}

// TestNothingBehindAKeyThatCouldNotBeBound: lines whose key was not bound are undecided as well.
func TestNothingBehindAKeyThatCouldNotBeBound(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{errDown, registry.ErrUnreadable} {
		binder := &failingBinder{world: newWorld(), err: cause, at: 2}
		h := newHarness(t, func(d *deps) { d.Keys = binder })
		got := answersOf(t, h.postChunks("k", []string{changeLine(1), changeLine(1), changeLine(2), changeLine(1), changeLine(3)}, 1).Body)
		var statuses []int
		for _, a := range got {
			statuses = append(statuses, a.Status)
		}
		second := http.StatusServiceUnavailable
		if !errors.Is(cause, errDown) {
			second = http.StatusInternalServerError
		}
		if want := []int{202, second, 503, 503, 503}; !slices.Equal(statuses, want) || len(h.accepted) != 1 {
			t.Errorf("%v: %v, want %v; %d accepted", cause, statuses, want, len(h.accepted))
		}
	}
}

// failingBinder fails to bind from the nth call on.
type failingBinder struct {
	*world
	err   error
	at, n int
}

func (b *failingBinder) BindIdempotencyKey(ctx context.Context, key string, lines map[int]string) ([]int, error) {
	if b.n++; b.n >= b.at {
		return nil, b.err
	}
	return b.world.BindIdempotencyKey(ctx, key, lines)
}

// TestOneChangeOfATenantAtATime is the rule of docs/api.md: who repeats a change under its key until it is
// answered, and only then sends the tenant's next, has them accepted in his order, whatever gets lost.
func TestOneChangeOfATenantAtATime(t *testing.T) {
	t.Parallel()
	for _, ran := range []bool{false, true} {
		f := &flaky{err: errDown, ran: ran, fails: func(n int) bool { return n%3 != 0 }}
		h, store := newStoreHarness(t, func(d *deps) { f.storeChanges = d.Changes.(storeChanges); d.Changes = f })
		last := int64(0)
		for i, kind := range []string{"suspend", "upgrade", "delete", "resume", "suspend"} {
			r := request{
				method: "POST", path: "/v1/state-changes", role: "platform", body: fmt.Sprintf(`{"tenant":"Cust1","change_type":%q}`, kind),
				header: map[string]string{"Idempotency-Key": fmt.Sprint("change-", i)},
			}
			rec := h.do(r)
			for try := 0; rec.Code == http.StatusServiceUnavailable && try < 5; try++ {
				rec = h.do(r)
			}
			var answer struct{ Sequence int64 }
			if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || rec.Code != http.StatusAccepted || answer.Sequence <= last {
				t.Errorf("change %d: %d %s, after %d: %v", i, rec.Code, rec.Body, last, err)
			}
			last = answer.Sequence
		}
		changes, err := store.Changes(t.Context(), "Cust1", 0)
		if err != nil || len(changes) != 5 || changes[0].Sequence != last {
			t.Errorf("%d changes are listed, want 5, the newest %d: %v", len(changes), last, err)
		}
	}
}

// TestSourceSequence: what comes below the highest that was accepted changes nothing, alone or as a line; a repeat
// under the same key gets the first answer, and the same key with another count is another body.
func TestSourceSequence(t *testing.T) {
	t.Parallel()
	h, store := newStoreHarness(t)
	post := func(want int, key, body string) map[string]any {
		t.Helper()
		r := request{method: "POST", path: "/v1/state-changes", role: "platform", body: body}
		if key != "" {
			r.header = map[string]string{"Idempotency-Key": key}
		}
		return h.want(t, want, r)
	}
	numbered := func(kind string, source int64) string {
		return fmt.Sprintf(`{"tenant":"Cust1","change_type":%q,"source_sequence":%d}`, kind, source)
	}
	first := post(202, "a", numbered("suspend", 5))
	for _, refused := range []struct{ key, body string }{
		{"b", numbered("delete", 4)}, {"c", numbered("delete", 5)}, {"", numbered("delete", 1)}, {"", numbered("suspend", 5)},
	} {
		p := post(409, refused.key, refused.body)
		if p["type"] != "urn:lamplighter:problem:out-of-order" || !slices.Equal(pointers(p), []string{"/source_sequence"}) {
			t.Errorf("%s = %v", refused.body, p)
		}
	}
	if p := post(409, "a", numbered("suspend", 6)); p["type"] != "urn:lamplighter:problem:idempotency-key-reused" {
		t.Errorf("the same key with another count = %v", p)
	}
	if p := post(409, "a", `{"tenant":"Cust1","change_type":"suspend"}`); p["type"] != "urn:lamplighter:problem:idempotency-key-reused" {
		t.Errorf("the same key without a count = %v", p)
	}
	post(202, "", `{"tenant":"Cust1","change_type":"upgrade"}`)
	post(202, "", numbered("resume", 1<<53-1))
	if again := post(202, "a", numbered("suspend", 5)); again["sequence"] != first["sequence"] {
		t.Errorf("the repeat gave %v after %v", again, first)
	}
	if got := h.want(t, 200, request{method: "GET", path: "/v1/tenants/Cust1", role: "platform"}); got["source_sequence"] != float64(1<<53-1) || got["state"] != "Running" {
		t.Errorf("tenant = %v", got)
	}
	lines := h.post(t, "lines", strings.ReplaceAll(numbered("suspend", 7)+"\n"+numbered("delete", 6)+"\n"+numbered("resume", 8), "Cust1", "Cust2"))
	if lines[0].Status != 202 || lines[1].Status != 409 || lines[2].Status != 202 || len(lines[1].Errors) != 1 || lines[1].Errors[0].Pointer != "/source_sequence" {
		t.Errorf("lines = %+v", lines)
	}
	if v, err := store.Tenant(t.Context(), "Cust2"); err != nil || v.Status.State != tenant.Running || v.SourceSequence != 8 {
		t.Errorf("Cust2 = %+v, %v", v, err)
	}
	rec := h.do(request{method: "GET", path: "/v1/audit?of=changes&subject=Cust2", role: "operator"})
	if body := rec.Body.String(); !strings.Contains(body, `"source_sequence":7`) || !strings.Contains(body, `"source_sequence":8`) || strings.Contains(body, `"source_sequence":6`) {
		t.Errorf("audit = %s", body)
	}
}
