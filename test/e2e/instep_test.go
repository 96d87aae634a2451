package e2e_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// knowledge is the answer to who knows of a change.
type knowledge struct {
	InStep bool `json:"in_step"`
	Apps   []struct {
		Outcome    string `json:"outcome"`
		ReplacedBy string `json:"replaced_by"`
	} `json:"apps"`
}

// TestInStepMeansTold: the receiver is down, so nobody was told a change that a newer one replaced.
func TestInStepMeansTold(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	s.serve("api,worker")
	r := newReceiver(t, "app1")
	s.register(r, "RS256", []string{"Cust1", "Cust2"})
	r.stop()
	post := func(name string, kind int) (id string) {
		var a struct {
			ID string `json:"id"`
		}
		s.want(http.StatusAccepted, &a, http.MethodPost, "/v1/state-changes", change{name, kind}.json())
		return a.ID
	}
	asked := func(id string) (k knowledge) {
		s.want(http.StatusOK, &k, http.MethodGet, "/v1/state-changes/"+id, "")
		if len(k.Apps) != 1 {
			t.Fatalf("%s: %+v", id, k)
		}
		return k
	}
	pairs := map[string]string{}
	suspended, moved := post("Cust1", int(tenant.Suspend)), post("Cust2", int(tenant.Move))
	pairs[suspended], pairs[moved] = post("Cust1", int(tenant.Resume)), post("Cust2", int(tenant.Delete))
	redistest.Eventually(t, 10*time.Second, "both are in the mailbox", func() bool {
		return asked(suspended).Apps[0].ReplacedBy == pairs[suspended] && asked(moved).Apps[0].ReplacedBy == pairs[moved]
	})
	for older, newer := range pairs {
		for _, id := range []string{older, newer} {
			if k := asked(id); k.InStep || k.Apps[0].Outcome != "waiting" {
				t.Errorf("nobody was told, yet %s: %+v", id, k)
			}
		}
	}
	r.start()
	redistest.Eventually(t, 90*time.Second, "all are in step", func() bool {
		return asked(suspended).InStep && asked(moved).InStep && asked(pairs[suspended]).InStep && asked(pairs[moved]).InStep
	})
	s.sameStatus("Cust1", r)
	s.sameStatus("Cust2", r)
	r.healthy()
}

// TestOnRequestWhatThePullShows: a state that was set since the newest change is what an approval and a
// resync tell; one that no change type says is not told.
func TestOnRequestWhatThePullShows(t *testing.T) {
	t.Parallel()
	s := newStack(t, "everysec")
	s.serve("api,worker")
	first := newReceiver(t, "app1")
	s.register(first, "RS256", []string{"Cust1"})
	statuses := func(r *receiver) (n, last int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if k := r.tenants["Cust1"]; k != nil {
			return k.statuses, k.status
		}
		return 0, -1
	}
	resync := func(r *receiver, want int) {
		before, _ := statuses(r)
		s.want(http.StatusAccepted, nil, http.MethodPost, "/v1/apps/"+r.id+"/resync", `{"tenants":["Cust1"]}`) // of all it is once a minute
		redistest.Eventually(t, 10*time.Second, "the resync arrives", func() bool { n, _ := statuses(r); return n == before+want })
	}
	set := func(st tenant.State) {
		s.want(http.StatusOK, nil, http.MethodPut, "/v1/tenants/Cust1/status", `{"state":"`+st.String()+`"}`)
	}
	s.want(http.StatusAccepted, nil, http.MethodPost, "/v1/state-changes", change{"Cust1", int(tenant.Suspend)}.json())
	redistest.Eventually(t, 10*time.Second, "the change arrives", func() bool { n, _ := statuses(first); return n == 1 })

	set(tenant.Running)
	later := newReceiver(t, "app2")
	s.register(later, "RS256", []string{"Cust1"})
	redistest.Eventually(t, 10*time.Second, "the approval tells", func() bool { n, _ := statuses(later); return n == 1 })
	resync(first, 1)
	s.sameStatus("Cust1", first, later)
	for _, st := range []tenant.State{tenant.Suspended, tenant.OfflineMaintenance, tenant.Deleted, tenant.Running} {
		set(st)
		resync(first, 1)
		s.sameStatus("Cust1", first)
	}
	for _, st := range tenant.AllStates() {
		if _, says := st.ResyncChangeType(); !says && st != tenant.Unknown {
			set(st)
			resync(first, 0)
		}
	}
	if n, last := statuses(first); last != int(tenant.Resume) {
		t.Errorf("the last of %d was told as %s", n, strconv.Itoa(last))
	}
	first.healthy()
	later.healthy()
}
