package mailbox_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// A deposit that too few replicas confirmed is an error, and yet it armed a wake-up, which nobody else
// would enqueue before its grace is over.
func TestDepositThatLacksReplicasStillWakes(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	replica := redistest.StartReplica(t, p)
	rdb, err := redisconn.New(redisconn.Options{URL: secret.New("redis://" + p.Addr), WaitReplicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	s := mailbox.New(rdb, keys.New(""), mailbox.Settings{})
	for _, app := range []partner.ClientID{"app1", "app2"} {
		if _, err := s.Approve(t.Context(), mailbox.Life{App: app}, 0, []mailbox.Admission{{Tenant: "t1", Top: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	replica.Freeze()
	defer replica.Thaw()
	rec := []tenant.Record{story("t1", "suspend5")}
	var few *redisconn.ReplicasError
	if d, err := s.Deposit(t.Context(), mailbox.Life{App: "app1"}, "n", rec); !errors.As(err, &few) || d.Written != 1 || d.Wake.IsNone() {
		t.Errorf("one: %+v, %v", d, err)
	}
	ds, errs := s.DepositMany(t.Context(), "m", []mailbox.Batch{{Life: mailbox.Life{App: "app2"}, Records: toPointers(rec...)}})
	if !errors.As(errs[0], &few) || ds[0].Written != 1 || ds[0].Wake.IsNone() {
		t.Errorf("many: %+v, %v", ds, errs)
	}
}

// Approvals that were given and taken back are counted, also where too few replicas confirmed it: a repeat
// does not count them again.
func TestApprovalsThatLackReplicasAreCounted(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	replica := redistest.StartReplica(t, p)
	rdb, err := redisconn.New(redisconn.Options{URL: secret.New("redis://" + p.Addr), WaitReplicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	s := mailbox.New(rdb, keys.New(""), mailbox.Settings{})
	if _, err := s.Approve(t.Context(), mailbox.Life{App: "app1"}, 0, []mailbox.Admission{{Tenant: "t1", Top: 1}}); err != nil {
		t.Fatal(err)
	}
	replica.Freeze()
	defer replica.Thaw()
	var few *redisconn.ReplicasError
	if n, err := s.ApproveNew(t.Context(), mailbox.Life{App: "app1"}, 0, []mailbox.Admission{{Tenant: "t2", Top: 1}}); !errors.As(err, &few) || n != 1 {
		t.Errorf("approved %d, %v", n, err)
	}
	if n, err := s.Dismiss(t.Context(), mailbox.Life{App: "app1"}, []tenant.ID{"t1"}); !errors.As(err, &few) || n != 1 {
		t.Errorf("took %d back, %v", n, err)
	}
}

// What one call to Redis holds is bounded: Lua's stack is.
func TestCallsAreBounded(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		ids := make([]tenant.ID, mailbox.MaxBatch+1)
		admissions, recs := make([]mailbox.Admission, len(ids)), make([]tenant.Record, len(ids))
		results := make([]mailbox.Settlement, len(ids))
		for i := range ids {
			ids[i] = tenant.ID(fmt.Sprintf("t%03d", i))
			admissions[i], recs[i] = mailbox.Admission{Tenant: ids[i]}, story(ids[i], "suspend5 move6 backup_restored7")
			results[i].Claim.Tenant = ids[i]
		}
		ctx := b.Context()
		calls := map[string]func(n int) error{
			"Approve": func(n int) error { _, err := b.s.Approve(ctx, testLife, 0, admissions[:n]); return err },
			"ApproveNew": func(n int) error {
				_, err := b.s.ApproveNew(ctx, mailbox.Life{App: "app3"}, 0, admissions[:n])
				return err
			},
			"RequestResync": func(n int) error { _, err := b.s.RequestResync(ctx, testLife, admissions[:n]); return err },
			"Deposit":       func(n int) error { _, err := b.s.Deposit(ctx, testLife, "n", recs[:n]); return err },
			"ReadPairs":     func(n int) error { _, err := b.s.ReadPairs(ctx, testApp, ids[:n]); return err },
			"Exchange": func(n int) error {
				_, err := b.s.Exchange(ctx, testLife, "d1", mailbox.MaxBatch, results[:n])
				return err
			},
			"Dismiss": func(n int) error { _, err := b.s.Dismiss(ctx, testLife, ids[:n]); return err },
		}
		for _, name := range []string{"Approve", "ApproveNew", "RequestResync", "Deposit", "ReadPairs", "Exchange", "Dismiss"} {
			if err := calls[name](mailbox.MaxBatch); err != nil {
				b.Errorf("%s of as many as may be: %v", name, err)
			}
			if err := calls[name](mailbox.MaxBatch + 1); err == nil {
				b.Errorf("%s of one more passes", name)
			}
		}
	})
}

// TestDurableAnswersMoveTheOffset makes each call on a client that waits for replicas, and repeats it: also
// where it finds its work done, WAIT has something to wait for.
func TestDurableAnswersMoveTheOffset(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	redistest.StartReplica(t, p)
	rdb, err := redisconn.New(redisconn.Options{URL: secret.New("redis://" + p.Addr), WaitReplicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	moves := redistest.NewMoves(t, p)
	rdb.AddHook(moves)
	s := mailbox.New(rdb, keys.New(""), mailbox.Settings{})
	store, ctx := reflect.ValueOf(s), t.Context()
	const app = partner.ClientID("app1")
	admissions, ids := []mailbox.Admission{{Tenant: "t1", Top: 1}}, []tenant.ID{"t1"}
	recs := []tenant.Record{story("t1", "suspend5")}
	life, other := mailbox.Life{App: app, Birth: 3}, mailbox.Life{App: "app2", Birth: 3}
	sw := mailbox.Switch{Life: life, Revision: 3, On: true}
	job := mailbox.JobID{App: app, Kind: mailbox.JobResync, Number: 7}
	claim := mailbox.JobClaim{Job: mailbox.Job{ID: job, Birth: 3, State: mailbox.JobRunning}, Token: "w"}
	clearing := mailbox.JobClaim{Job: mailbox.Job{ID: mailbox.ClearJobID(life), Birth: 3, State: mailbox.JobRunning}, Token: "w"}
	args := map[string][]any{
		"Approve": {life, int64(0), admissions}, "ApproveNew": {other, int64(0), admissions}, "RequestResync": {life, admissions},
		"HasApproved": {app, tenant.ID("t1")}, "Approvals": {app, "", 10}, "Deposit": {life, "n", recs},
		"DepositMany": {"m", []mailbox.Batch{{Life: life, Records: toPointers(recs...)}}}, "Dismissals": {app}, "Dismiss": {life, ids},
		"ReadPairs": {app, ids}, "ReadPairsOfTenant": {tenant.ID("t1"), []partner.ClientID{app}}, "View": {app}, "Views": {[]partner.ClientID{app}},
		"Begin": {life, "d", int64(0)}, "Exchange": {life, "d", 1, []mailbox.Settlement(nil)}, "Finish": {life, "d", mailbox.Closing{}},
		"BeginAndClaim": {life, "e", int64(0), 1}, "SettleAndFinish": {life, "e", []mailbox.Settlement(nil)}, "RecallFailed": {life, "e"}, "RenewLease": {life, "d"},
		"ApplySwitch": {"n", sw}, "RepairWakeUps": {"n", []mailbox.Switch{sw}},
		"EndCooldown": {life, "n"}, "BeginLife": {life}, "EndLife": {mailbox.Life{App: "app3", Birth: 4}}, "ReadFormerApprovals": {life},
		"ReadMarks": {app, "", 10}, "ReadMarksOf": {[]mailbox.MarkQuery{{App: app, Tenants: ids}}},
		"MakeDepositJob": {life, job, "Kim", "admin"}, "MakeClearJob": {life, "Kim", "admin", true}, "ClaimJob": {job, "w"}, "ReadJobPage": {claim},
		"DepositJobPage": {&claim, "n", recs, mailbox.PageDeposit{All: true}}, "RemoveFormerApprovals": {clearing, ids}, "FailJob": {claim, mailbox.StoreAway},
		"ReleaseJob": {claim}, "EndJob": {claim, mailbox.JobDone, mailbox.NoURL}, "CancelJob": {job}, "Jobs": {[]mailbox.JobID{job}},
		"OpenJobs": {[]partner.ClientID{app}},
	}
	for i := range store.NumMethod() {
		name := store.Type().Method(i).Name
		if name == "Settings" { // sends no command
			continue
		}
		in := []reflect.Value{reflect.ValueOf(ctx)}
		for _, a := range args[name] {
			in = append(in, reflect.ValueOf(a))
		}
		if len(in) != store.Method(i).Type().NumIn() {
			t.Errorf("%s is not in the table, or takes other arguments", name)
			continue
		}
		for _, what := range []string{"the first", "the repeat"} {
			store.Method(i).Call(in) // a refusal is an answer, too
			if moved, still := moves.Take(); moved == 0 || still > 0 {
				t.Errorf("%s: %s: %d answers moved the offset, %d did not", name, what, moved, still)
			}
		}
	}
}
