package service_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// twins is the path of a change from intake to receiver on one Redis, whose round trips can be made
// to fail. Nothing runs by itself: settle does what tasks and sweeps would.
type twins struct {
	*testing.T
	redistest.Twin
	reg       *registry.Store
	boxes     *mailbox.Store
	life      mailbox.Life
	dir       *registry.Directory
	intake    *intake.Intake
	fanout    *fanout.Fanout
	approvals *fanout.Approvals
	drainer   *drain.Drainer
	repairer  *fanout.Repairer
	rdb       redis.UniversalClient

	mu   sync.Mutex
	told []delivery.Message
	// outage: the receiver answers nobody.
	outage bool
}

func (w *twins) locked(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

const (
	twinApp    partner.ClientID = "app1"
	twinTenant tenant.ID        = "Cust1"
)

func newTwins(t *testing.T, rdb redis.UniversalClient) *twins {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	if err != nil {
		t.Fatal(err)
	}
	const ownerLease, entryLease = 300 * time.Millisecond, 2500 * time.Millisecond
	log := slog.New(slog.DiscardHandler)
	w := &twins{T: t, rdb: rdb, reg: registry.New(rdb, registry.Options{Keyring: secret.NewKeyring(k)})}
	rdb.AddHook(&w.Twin)
	w.boxes = mailbox.New(rdb, keys.New(""), mailbox.Settings{OwnerLease: ownerLease, EntryLease: entryLease, Grace: 50 * time.Millisecond})
	w.dir = registry.NewDirectory(w.reg)
	metrics := fanout.NewMetrics(prometheus.NewRegistry())
	w.fanout = fanout.New(fanout.Options{Tenants: w.reg, Mailboxes: w.boxes, Apps: w.dir, Waker: w, Metrics: metrics, Log: log})
	w.approvals = fanout.NewApprovals(fanout.ApprovalsOptions{Index: w.reg, Admissions: w.boxes, Apps: w.dir, Waker: w, Metrics: metrics, Log: log})
	w.repairer = fanout.NewRepairer(fanout.RepairOptions{Approvals: w.approvals, Index: w.reg})
	w.intake = intake.New(w.reg, w, intake.NewMetrics(prometheus.NewRegistry()), log)
	w.drainer = drain.New(drain.Options{
		Mailbox: w.boxes, Endpoints: w, Waker: w, Observer: w, Metrics: drain.NewMetrics(prometheus.NewRegistry()), Log: log,
		Schedule: delivery.DefaultSchedule(), Cooldown: delivery.Cooldown{Base: time.Second, Max: time.Second}, BreakerFailures: 1,
		InFlightPerApp: 4, InFlight: 4, Budget: time.Second, Timeout: 100 * time.Millisecond, EntryLease: entryLease, OwnerLease: ownerLease,
	})
	a := partner.New(twinApp)
	a.Name, a.EverHadURL = "App", true
	a.Endpoints[partner.StateChange].URL, a.Endpoints[partner.StateChange].Enabled = "https://partner.example/hook", true
	rec, _, err := w.reg.PutApp(t.Context(), a, registry.AnyRevision, nil, registry.Actor{Name: "test"}, "app.put")
	w.must("put the app", err)
	w.life = mailbox.Life{App: twinApp, Birth: rec.Birth}
	return w
}

func (w *twins) must(what string, err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// Notify fans out at once, as the task would.
func (w *twins) Notify(ctx context.Context, _ string, ts []tenant.ID) error {
	return w.fanout.Run(ctx, ts)
}

// Wake forgets a wake-up: settle drains anyway.
func (w *twins) Wake(context.Context, partner.ClientID, mailbox.Wake) error { return nil }

// Enqueue implements drain.Waker.
func (w *twins) Enqueue(context.Context, partner.ClientID, mailbox.Wake) error { return nil }

func (w *twins) Life(context.Context, partner.ClientID, bool) (mailbox.Life, bool, error) {
	return w.life, true, nil
}

func (w *twins) Endpoint(context.Context, partner.ClientID, int64) (drain.Endpoint, bool, error) {
	return drain.Endpoint{Life: w.life, Revision: 1, Attempt: w.post}, true, nil
}

func (w *twins) SwitchOff(context.Context, drain.Endpoint, delivery.Result) (int64, error) {
	return 0, errors.New("nobody is switched off here")
}

var resyncJob = mailbox.JobID{App: twinApp, Kind: mailbox.JobResync, Number: 7} //nolint:gochecknoglobals // a name

// resyncAll has a job tell the app of all its tenants again.
func (w *twins) resyncAll() error {
	if _, _, err := w.boxes.MakeDepositJob(w.Context(), w.life, resyncJob, "", ""); err != nil {
		return err
	}
	return w.run(resyncJob)
}

// run makes a job's pages to its end, as a worker does.
func (w *twins) run(id mailbox.JobID) error {
	c, is, _, err := w.boxes.ClaimJob(w.Context(), id, "worker")
	if err != nil || is != mailbox.JobTaken {
		return err
	}
	for ended := false; !ended; {
		if ended, err = w.approvals.AdvanceJob(w.Context(), &c); err != nil {
			return err
		}
	}
	return nil
}

func (w *twins) RecordAttempt(delivery.Attempt)                   {}
func (w *twins) Observe(context.Context, drain.Observation) error { return nil }

// post is the receiver: it takes everything, unless it is out.
func (w *twins) post(_ context.Context, m delivery.Message) delivery.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.outage {
		return delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonRefused, Fault: delivery.FaultEndpoint}
	}
	w.told = append(w.told, m)
	return delivery.ClassifyStatus(200)
}

// report reports a change under an idempotency key.
func (w *twins) report(key string, c tenant.ChangeType) (registry.Accepted, error) {
	res, err := w.intake.Accept(w.Context(), []registry.ChangeRequest{{Tenant: twinTenant, Type: c, IdempotencyKey: key, Line: 1}})
	if err != nil {
		return registry.Accepted{}, err
	}
	return res[0].Accepted, res[0].Err
}

func (w *twins) reported(key string, c tenant.ChangeType) registry.Accepted {
	w.Helper()
	a, err := w.report(key, c)
	w.must("report a change", err)
	return a
}

func (w *twins) approve() error {
	return w.approvals.Approve(w.Context(), twinApp, []tenant.ID{twinTenant}, registry.Actor{Name: "test"})
}

// settle does without faults what the sweep and the tasks do, until nothing is pending.
func (w *twins) settle() {
	w.Helper()
	ctx := w.Context()
	redistest.Eventually(w.T, 20*time.Second, "everything settles", func() bool {
		owed, err := w.reg.ListPendingFanouts(ctx, 0, registry.PendingFanout{}, 100)
		w.must("list owed fan-outs", err)
		for _, o := range owed {
			w.must("fan out", w.fanout.Run(ctx, []tenant.ID{o.Tenant}))
		}
		_, errs := w.boxes.RepairWakeUps(ctx, uuid.NewString(), []mailbox.Switch{{Life: w.life, Revision: 1, On: true}})
		w.must("sweep", errs[0])
		w.must("drain", w.drainer.Drain(ctx, twinApp, 0))
		v, err := w.boxes.View(ctx, twinApp)
		w.must("view", err)
		rec, err := w.reg.Tenants(ctx, []tenant.ID{twinTenant})
		w.must("read the tenant", err)
		return v.Waiting == 0 && v.InFlight == 0 && !rec[0].FanoutPending
	})
}

// heard checks what the receiver heard: the last is want, nothing went backwards, and nothing came
// more often than once and once again for the one fault.
func (w *twins) heard(want registry.Accepted, c tenant.ChangeType) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.told) == 0 {
		w.Fatal("the receiver heard nothing")
	}
	times := map[int64]int{}
	last := int64(0)
	for _, m := range w.told {
		if m.Sequence < last {
			w.Errorf("sequence %d after %d", m.Sequence, last)
		}
		last = m.Sequence
		times[m.Sequence]++
	}
	end := w.told[len(w.told)-1]
	if end.Sequence != want.Sequence || end.Change.Type != c {
		w.Errorf("the last was %v with sequence %d, want %v with %d", end.Change.Type, end.Sequence, c, want.Sequence)
	}
	for seq, n := range times {
		if n > 2 {
			w.Errorf("sequence %d came %d times for one fault", seq, n)
		}
	}
}

// mostTwins is more round trips than a use case makes.
const mostTwins = 32

// met are the calls that a fault met, before they were applied and after.
type met struct {
	mu    sync.Mutex
	calls [2]map[string]bool
}

func (m *met) add(after bool, functions []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := 0
	if after {
		i = 1
	}
	if m.calls[i] == nil {
		m.calls[i] = map[string]bool{}
	}
	for _, f := range functions {
		m.calls[i][f] = true
	}
}

// all checks that every call which intake, fan-out and drain make of registry and mailbox met both
// faults: the list is that of the interfaces they declare.
func (m *met) all(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, side := range []reflect.Type{
		reflect.TypeFor[intake.Registry](), reflect.TypeFor[fanout.Tenants](), reflect.TypeFor[fanout.Mailboxes](), reflect.TypeFor[fanout.Index](),
		reflect.TypeFor[fanout.Admissions](), reflect.TypeFor[fanout.RepairIndex](), reflect.TypeFor[drain.Mailbox](),
	} {
		of := "mailbox"
		if reflect.TypeFor[*registry.Store]().Implements(side) {
			of = "registry"
		}
		for method := range side.Methods() {
			name := "github.com/lamplighter/lamplighter/internal/" + of + ".(*Store)." + method.Name
			if !m.calls[0][name] || !m.calls[1][name] {
				t.Errorf("%s of %s met no fault, before it was applied %v, after %v", method.Name, side, m.calls[0][name], m.calls[1][name])
			}
		}
	}
}

// TestFaultTwins has every round trip to Redis on the path of a change fail, before it was applied
// and after, and then does what a caller, a task or the sweep would do.
func TestFaultTwins(t *testing.T) {
	t.Parallel()
	type useCase struct {
		// before sets the stage; act is what meets the fault, and is repeated by its caller on an
		// error; check looks at the end.
		before func(w *twins)
		act    func(w *twins) error
		check  func(w *twins)
		least  int // round trips that act makes at least
	}
	stage := func(w *twins) {
		w.must("approve", w.approve())
		w.reported("k0", tenant.Upgrade)
		w.settle()
	}
	faults := &met{}
	t.Cleanup(func() { faults.all(t) })
	for name, c := range map[string]useCase{
		"Intake": {
			before: stage, least: 7, // and the fan-out that it starts
			act: func(w *twins) error { _, err := w.report("k1", tenant.Suspend); return err },
			check: func(w *twins) {
				a := w.reported("k1", tenant.Suspend)
				if !a.Replayed {
					w.Error("the change was forgotten: its repeat is a new one")
				}
				w.heard(a, tenant.Suspend)
			},
		},
		"Fanout": {
			before: func(w *twins) {
				stage(w)
				_, err := w.reg.Accept(w.Context(), []registry.ChangeRequest{{Tenant: twinTenant, Type: tenant.Suspend, IdempotencyKey: "k1", Line: 1}})
				w.must("accept", err)
			},
			act:   func(w *twins) error { return w.fanout.Run(w.Context(), []tenant.ID{twinTenant}) },
			check: func(w *twins) { w.heard(w.reported("k1", tenant.Suspend), tenant.Suspend) },
			least: 4,
		},
		"FanoutInPieces": { // to more apps than are held at once, most of them gone
			before: func(w *twins) {
				stage(w)
				gone := make([]any, 1500)
				for i := range gone {
					gone[i] = fmt.Sprintf("gone%04d", i)
				}
				w.must("approve others", w.rdb.SAdd(w.Context(), keys.New("").Tenant(twinTenant, keys.TenantApprovals), gone...).Err())
				_, err := w.reg.Accept(w.Context(), []registry.ChangeRequest{{Tenant: twinTenant, Type: tenant.Suspend, IdempotencyKey: "k1", Line: 1}})
				w.must("accept", err)
			},
			act:   func(w *twins) error { return w.fanout.Run(w.Context(), []tenant.ID{twinTenant}) },
			check: func(w *twins) { w.heard(w.reported("k1", tenant.Suspend), tenant.Suspend) },
			least: 5,
		},
		"Approve": {
			before: func(w *twins) { w.reported("k1", tenant.Suspend); w.settle() },
			act:    func(w *twins) error { return w.approve() },
			check:  func(w *twins) { w.heard(w.reported("k1", tenant.Suspend), tenant.Suspend) },
			least:  5,
		},
		"ApproveFirst": {
			before: func(w *twins) { w.reported("k1", tenant.Suspend); w.settle() },
			act: func(w *twins) error {
				err := w.approvals.ApproveNew(w.Context(), twinApp, twinTenant, registry.Actor{Name: "test"})
				if errors.Is(err, registry.ErrConflict) {
					return nil // the caller's own approval, whose answer was lost
				}
				return err
			},
			check: func(w *twins) { w.heard(w.reported("k1", tenant.Suspend), tenant.Suspend) },
			least: 5,
		},
		"Resync": {
			before: stage,
			act: func(w *twins) error {
				_, err := w.approvals.Resync(w.Context(), twinApp, []tenant.ID{twinTenant})
				return err
			},
			check: func(w *twins) {
				w.heard(w.reported("k0", tenant.Upgrade), tenant.Upgrade)
				if len(w.told) < 2 {
					w.Error("nothing was told again")
				}
			},
			least: 3,
		},
		"ResyncOfAll": {
			before: stage,
			act:    func(w *twins) error { return w.resyncAll() },
			check: func(w *twins) {
				w.heard(w.reported("k0", tenant.Upgrade), tenant.Upgrade)
				if len(w.told) < 2 {
					w.Error("nothing was told again")
				}
			},
			least: 3,
		},
		"ResyncOfAnAppWithoutURL": {
			before: func(w *twins) {
				a := partner.New(twinApp)
				a.Name = "App"
				_, _, err := w.reg.PutApp(w.Context(), a, registry.AnyRevision, nil, registry.Actor{Name: "test"}, "app.put")
				w.must("take the URL away", errors.Join(err, w.dir.Refresh(w.Context())))
			},
			act: func(w *twins) error { return w.resyncAll() },
			check: func(w *twins) {
				js, err := w.boxes.Jobs(w.Context(), []mailbox.JobID{resyncJob})
				if err != nil || js[0].State != mailbox.JobDone || js[0].Reason != mailbox.NoURL {
					w.Errorf("job %+v, %v", js, err)
				}
			},
			least: 4,
		},
		"Dismiss": {
			before: stage,
			act: func(w *twins) error {
				return w.approvals.Dismiss(w.Context(), twinApp, []tenant.ID{twinTenant}, registry.Actor{Name: "test"})
			},
			check: func(w *twins) {
				n := len(w.told)
				w.reported("k1", tenant.Suspend)
				w.settle()
				if len(w.told) != n {
					w.Error("an app heard of a tenant that took its approval back")
				}
			},
			least: 3,
		},
		"Repair": { // of an approval that broke off before its index was written
			before: func(w *twins) {
				w.reported("k1", tenant.Suspend)
				w.settle()
				_, err := w.reg.RecordUnfinishedApprovals(w.Context(), twinApp, []tenant.ID{twinTenant})
				w.must("note", err)
				_, err = w.boxes.Approve(w.Context(), w.life, 0, []mailbox.Admission{{Tenant: twinTenant}})
				w.must("approve", err)
				noted := keys.New("").Pending(keys.PendingApprovals)
				for _, member := range w.rdb.ZRange(w.Context(), noted, 0, -1).Val() {
					w.must("make it old", w.rdb.ZAdd(w.Context(), noted, redis.Z{Score: 1, Member: member}).Err())
				}
			},
			act:   func(w *twins) error { return w.repairer.Repair(w.Context()) },
			check: func(w *twins) { w.heard(w.reported("k1", tenant.Suspend), tenant.Suspend) },
			least: 8,
		},
		"Clear": { // after a life of the app that is over
			before: func(w *twins) {
				stage(w)
				w.life.Birth++
				w.must("put the former life aside", w.boxes.BeginLife(w.Context(), w.life))
			},
			act: func(w *twins) error {
				_, err := w.boxes.MakeClearJob(w.Context(), w.life, "", "", true)
				return errors.Join(err, w.run(mailbox.ClearJobID(w.life)))
			},
			check: func(w *twins) {
				if left, err := w.reg.Approvers(w.Context(), twinTenant); err != nil || len(left) != 0 {
					w.Errorf("approvers of a former life: %v, %v", left, err)
				}
				if v, err := w.boxes.View(w.Context(), twinApp); err != nil || len(v.Former) != 0 {
					w.Errorf("former lives %v, %v", v.Former, err)
				}
			},
			least: 5,
		},
		"Drain": {
			before: func(w *twins) { stage(w); w.reported("k1", tenant.Suspend) },
			act: func(w *twins) error {
				if err := w.drainer.Drain(w.Context(), twinApp, 0); err != nil && !errors.Is(err, redistest.ErrTwin) {
					return err
				}
				return nil // a drain has no caller that repeats it
			},
			check: func(w *twins) { w.heard(w.reported("k1", tenant.Suspend), tenant.Suspend) },
			least: 2,
		},
		"DrainThatRecalls": { // as the run before left it
			before: func(w *twins) {
				stage(w)
				w.reported("k1", tenant.Suspend)
				w.must("leave a recall", w.rdb.HSet(w.Context(), keys.New("").App(twinApp, keys.AppMailbox), "recall", "0:9000000000000:0").Err())
			},
			act: func(w *twins) error {
				if err := w.drainer.Drain(w.Context(), twinApp, 0); err != nil && !errors.Is(err, redistest.ErrTwin) {
					return err
				}
				return nil
			},
			check: func(w *twins) { w.heard(w.reported("k1", tenant.Suspend), tenant.Suspend) },
			least: 3,
		},
		"DrainOfAnOutage": { // its run ends by opening the circuit
			before: func(w *twins) {
				stage(w)
				w.reported("k1", tenant.Suspend)
				w.outage = true
			},
			act: func(w *twins) error {
				err := w.drainer.Drain(w.Context(), twinApp, 0)
				w.locked(func() { w.outage = false })
				if err != nil && !errors.Is(err, redistest.ErrTwin) {
					return err
				}
				return nil
			},
			check: func(w *twins) { w.heard(w.reported("k1", tenant.Suspend), tenant.Suspend) },
			least: 3,
		},
	} {
		t.Run(name+"/NoFault", func(t *testing.T) { //nolint:paralleltest // it loads the scripts, so that the same call is the n-th one of every run
			w := newTwins(t, redistest.Real(t))
			c.before(w)
			w.must("without a fault", c.act(w))
			w.settle()
			c.check(w)
		})
		for n := 1; n <= mostTwins; n++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/call%d/after=%v", name, n, after), func(t *testing.T) {
					t.Parallel()
					w := newTwins(t, redistest.Real(t))
					c.before(w)
					w.Arm(n, after)
					err := c.act(w)
					fired := w.Disarm()
					if fired {
						faults.add(after, w.Where())
					}
					switch {
					case fired && n == mostTwins:
						t.Errorf("the use case makes more than %d round trips", n-1)
					case err != nil && !fired:
						t.Fatalf("without a fault: %v", err)
					case err != nil:
						w.must("the repeat", c.act(w))
					case !fired && n <= c.least:
						t.Errorf("only %d round trips or fewer: the test does not reach what it is for", n-1)
					}
					w.settle()
					c.check(w)
				})
			}
		}
	}
}
