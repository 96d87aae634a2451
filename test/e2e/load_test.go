package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// truth is what the platform knows it reported: per tenant the newest accepted change of each slot.
type truth struct {
	mu      sync.Mutex
	newest  map[string]map[int]int64 // tenant -> slot -> sequence
	status  map[string]int           // tenant -> change type of the newest status
	changes int
}

func newTruth() *truth {
	return &truth{newest: map[string]map[int]int64{}, status: map[string]int{}}
}

func (tr *truth) accepted(name string, changeType int, sequence int64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.changes++
	m := tr.newest[name]
	if m == nil {
		m = map[int]int64{}
		tr.newest[name] = m
	}
	slot := slotOf(changeType)
	if sequence < m[slot] {
		return
	}
	m[slot] = sequence
	if slot == 0 {
		tr.status[name] = changeType
	}
	if changeType == int(tenant.Delete) { // a newer Delete makes the others untold truth
		for s, q := range m {
			if s != 0 && q < sequence {
				delete(m, s)
			}
		}
	}
}

var words = []string{"upgrade", "backup_restored", "suspend", "resume", "delete", "move"}

// change is one line of the platform's report.
type change struct {
	tenant string
	kind   int
}

func (c change) json() string {
	extra := ""
	if c.kind == int(tenant.Move) {
		extra = `,"public_endpoint":"online` + strconv.Itoa(1+rand.IntN(9)) + `.superoffice.com"`
	}
	return `{"tenant":"` + c.tenant + `","change_type":"` + words[c.kind] + `"` + extra + `}`
}

// randomChange draws mostly switches on and off.
func randomChange(name string) change {
	kinds := []int{0, 2, 3, 3, 2, 3, 1, 5, 5, 4}
	return change{name, kinds[rand.IntN(len(kinds))]}
}

// publish reports changes as one NDJSON body under one idempotency key, and repeats it until every
// line is accepted: what a platform does that has not heard back.
func (s *stack) publish(ctx context.Context, tr *truth, key string, changes []change) error {
	var body strings.Builder
	for _, c := range changes {
		body.WriteString(c.json() + "\n")
	}
	for {
		status, b, err := s.try(ctx, http.MethodPost, "/v1/state-changes", "application/x-ndjson", []byte(body.String()), "Idempotency-Key", key)
		if err == nil && status == http.StatusOK && s.note(tr, changes, b) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("publish: status %d: %s: %w", status, tail(b, 200), errors.Join(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// note records the accepted lines; false when some were not.
func (s *stack) note(tr *truth, changes []change, answer []byte) bool {
	type line struct {
		Line     int   `json:"line"`
		Status   int   `json:"status"`
		Sequence int64 `json:"sequence"`
	}
	var got []line
	for l := range strings.Lines(string(answer)) {
		var a line
		if json.Unmarshal([]byte(l), &a) != nil || a.Status != http.StatusAccepted {
			return false
		}
		got = append(got, a)
	}
	if len(got) != len(changes) {
		return false
	}
	for i, a := range got {
		tr.accepted(changes[i].tenant, changes[i].kind, a.Sequence)
	}
	return true
}

// settled reports whether a receiver knows the newest of every slot, and what it misses.
func (r *receiver) settled(tr *truth) (missing []string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, slots := range tr.newest {
		for slot, seq := range slots {
			s := r.tenants[name]
			if s == nil || s.sequences[slot] < seq {
				missing = append(missing, name+" slot "+strconv.Itoa(slot))
			}
		}
		if s := r.tenants[name]; s != nil && len(missing) == 0 && s.status != tr.status[name] && slots[0] != 0 {
			missing = append(missing, name+" has the wrong status")
		}
	}
	slices.Sort(missing)
	return missing
}

// awaitSettled waits until every receiver knows the truth.
func awaitSettled(t testing.TB, tr *truth, within time.Duration, rs ...*receiver) {
	t.Helper()
	deadline := time.Now().Add(within)
	for _, r := range rs {
		for {
			missing := r.settled(tr)
			if len(missing) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s was not told %d things within %v, such as %s", r.id, len(missing), within, missing[0])
			}
			wait(t, 50*time.Millisecond)
		}
	}
}

func wait(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal("test ended")
	}
}

// sameStatus checks that pull and push say the same of a tenant's status, and returns where the
// pull says that the tenant is.
func (s *stack) sameStatus(name string, rs ...*receiver) (endpoint string) {
	s.t.Helper()
	var st struct {
		State    string
		Endpoint *string
	}
	s.get("http://"+s.api+"/api/state/"+name, &st)
	for _, r := range rs {
		r.mu.Lock()
		k := r.tenants[name]
		r.mu.Unlock()
		if k == nil || k.sequences[0] == 0 {
			continue
		}
		if want, _ := tenant.ChangeType(k.status).ResultingState(); st.State != want.String() {
			s.t.Errorf("%s: pull says %s, %s was last told %s", name, st.State, r.id, tenant.ChangeType(k.status))
		}
	}
	if st.Endpoint == nil {
		return ""
	}
	return *st.Endpoint
}

// agree checks that pull and push say the same of every tenant.
func (s *stack) agree(tr *truth, rs ...*receiver) {
	s.t.Helper()
	for name, slots := range tr.newest {
		endpoint := s.sameStatus(name, rs...)
		for _, r := range rs {
			r.mu.Lock()
			k := r.tenants[name]
			r.mu.Unlock()
			// a Delete removes a move that was not told yet, so only the newest move is comparable
			if move := slots[1]; k != nil && move != 0 && k.sequences[1] == move && endpoint != "https://"+k.endpoint+"/"+name {
				s.t.Errorf("%s: pull's endpoint is not %s, which %s was told", name, k.endpoint, r.id)
			}
		}
	}
}

func TestEveryAppEndsWithTheTruth(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	s.serve("api,worker")
	names := tenantNames(200)
	apps := []*receiver{newReceiver(t, "app1"), newReceiver(t, "app2"), newReceiver(t, "app3")}
	for i, r := range apps {
		s.register(r, []string{"RS256", "ES256", "ES256"}[i], names)
	}
	tr := newTruth()
	down := apps[2]
	for round := range 5 {
		if round == 1 { // what was half-told when it stops would be told twice, rightly
			awaitSettled(t, tr, 30*time.Second, down)
			down.stop()
			down.mark()
		}
		var changes []change
		for _, i := range rand.Perm(len(names)) {
			c := randomChange(names[i])
			if c.kind == int(tenant.Delete) && round < 4 {
				c.kind = int(tenant.Resume)
			}
			changes = append(changes, c)
		}
		if err := s.publish(t.Context(), tr, "round-"+strconv.Itoa(round), changes); err != nil {
			t.Fatal(err)
		}
	}
	awaitSettled(t, tr, 30*time.Second, apps[0], apps[1])
	var box struct {
		Waiting  int `json:"waiting"`
		Diverged int `json:"diverged_tenants"`
	}
	s.want(http.StatusOK, &box, http.MethodGet, "/v1/apps/app3/mailbox", "")
	if box.Waiting == 0 || box.Waiting > 3*len(names) || box.Diverged > len(names) {
		t.Errorf("mailbox of the app that is down: %+v, want at most three entries a tenant", box)
	}
	down.start()
	began := time.Now()
	awaitSettled(t, tr, 30*time.Second, down)
	t.Logf("the app that was down had everything %v after it was back; %d waited", time.Since(began).Round(10*time.Millisecond), box.Waiting)
	s.agree(tr, apps...)
	for _, r := range apps {
		r.healthy()
	}
	down.mu.Lock()
	defer down.mu.Unlock()
	for name, k := range down.tenants {
		if k.statuses > 1 {
			t.Errorf("%s: %d statuses after the outage, want at most one", name, k.statuses)
		}
	}
}

// TestAllChangeTypesInOrder follows one tenant through its life by the shell command.
func TestAllChangeTypesInOrder(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	s.serve("api,worker")
	r := newReceiver(t, "app1")
	s.register(r, "RS256", []string{"Cust1"})
	for i, kind := range []int{0, 3, 1, 5, 2, 4} {
		var a struct {
			ID       string `json:"id"`
			Sequence int64  `json:"sequence"`
			Apps     int    `json:"apps"`
		}
		s.want(http.StatusAccepted, &a, http.MethodPost, "/v1/state-changes", change{"Cust1", kind}.json())
		if a.Apps != 1 {
			t.Errorf("change %d: apps %d", i, a.Apps)
		}
		redistest.Eventually(t, 5*time.Second, "change "+words[kind]+" arrives", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			k := r.tenants["Cust1"]
			return k != nil && k.sequences[slotOf(kind)] == a.Sequence
		})
		redistest.Eventually(t, 5*time.Second, "everyone knows of "+words[kind], func() bool {
			var k struct {
				InStep bool `json:"in_step"`
			}
			s.want(http.StatusOK, &k, http.MethodGet, "/v1/state-changes/"+a.ID, "")
			return k.InStep
		})
	}
	r.healthy()
}
