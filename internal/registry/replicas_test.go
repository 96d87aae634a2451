package registry_test

import (
	"cmp"
	"errors"
	"go/ast"
	"go/parser"
	source "go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// TestAcceptedMeansReplicated freezes the only replica: a change is then written, but not answered
// as accepted, and neither is a repeat, which writes nothing new. Once the replica is back, the
// repeat gets the first answer.
func TestAcceptedMeansReplicated(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--appendonly", "yes")
	replica := redistest.StartReplica(t, p)
	connect := func(wait int) redisconn.Options {
		return redisconn.Options{URL: secret.New("redis://" + p.Addr), WaitReplicas: wait}
	}
	durable, err := redisconn.New(connect(1))
	noErr(t, "connect", err)
	t.Cleanup(func() { _ = durable.Close() })
	rdb, err := redisconn.New(connect(0))
	noErr(t, "connect", err)
	t.Cleanup(func() { _ = rdb.Close() })
	s := registry.New(rdb, registry.Options{Keys: keys.New("test"), Keyring: testKeyring(t), Durable: durable})
	ctx := t.Context()
	once := func(key string) (registry.Accepted, error) {
		r := change("Cust1", tenant.Suspend)
		r.IdempotencyKey = key
		results, err := s.Accept(ctx, []registry.ChangeRequest{r})
		if err != nil {
			return registry.Accepted{}, err
		}
		return results[0].Accepted, results[0].Err
	}
	first, err := once("k1")
	noErr(t, "accept with a replica", err)
	replica.Freeze()
	defer replica.Thaw()
	var few *redisconn.ReplicasError
	for _, what := range []string{"the change", "its repeat"} {
		if _, err := once("k2"); !errors.As(err, &few) {
			t.Errorf("%s was accepted without a replica: %v", what, err)
		}
	}
	got, err := s.Tenants(ctx, []tenant.ID{"Cust1"})
	noErr(t, "read", err)
	if got[0].Record.Top <= first.Sequence {
		t.Error("nothing was written, so that the repeat proves nothing")
	}
	written := got[0].Record.Top
	replica.Thaw()
	var again registry.Accepted
	redistest.Eventually(t, 20*time.Second, "the repeat is accepted", func() bool {
		again, err = once("k2")
		return err == nil
	})
	if !again.Replayed || again.Sequence != written {
		t.Errorf("the repeat got sequence %d (replayed: %v), want the first's, %d", again.Sequence, again.Replayed, written)
	}
}

// durableCalls are the exported methods that use the durable client.
func durableCalls(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	noErr(t, "list the package", err)
	var out []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(source.NewFileSet(), name, nil, 0)
		noErr(t, "parse", err)
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "durable" {
					out = append(out, fn.Name.Name)
				}
				return true
			})
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestDurableAnswersMoveTheOffset makes each call that a caller may rely on, and repeats it: also where
// it finds its work done, WAIT has something to wait for. The list is held complete by the source.
func TestDurableAnswersMoveTheOffset(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	redistest.StartReplica(t, p)
	durable, err := redisconn.New(redisconn.Options{URL: secret.New("redis://" + p.Addr), WaitReplicas: 1})
	noErr(t, "connect", err)
	t.Cleanup(func() { _ = durable.Close() })
	moves := redistest.NewMoves(t, p)
	durable.AddHook(moves)
	rdb := p.Client(t)
	options := registry.Options{Keys: keys.New("test"), Keyring: testKeyring(t), Durable: durable}
	s := registry.New(rdb, options)
	engines := registry.NewIncidentStore(durable, keys.New("test"), 0)
	ctx := t.Context()
	change := change("Cust1", tenant.Suspend)
	change.IdempotencyKey = "k"
	once := registry.IdempotencyRecord{Caller: "kim", Key: "k", Digest: "d", Within: time.Minute}
	var run string
	ids := []tenant.ID{"Cust1"}
	older := registry.New(rdb, options)
	_, _, err = older.PutApp(ctx, testApp("sealed"), registry.AnyRevision, &registry.WebhookSecrets{Current: secret.New("whsec_" + strings.Repeat("A", 32))}, kim, "app.put")
	noErr(t, "an app with secrets", err)
	options.Keyring = turnedKeyring{testKeyring(t)}
	turned := registry.New(rdb, options)
	calls := []struct {
		name string
		// fails is true of a call whose repeat is refused, which is an answer too.
		fails bool
		call  func() error
	}{
		{"Accept", false, func() error {
			r, err := s.Accept(ctx, []registry.ChangeRequest{change})
			return errors.Join(err, r[0].Err)
		}},
		{"acceptRound", true, func() error { // without a key, and out of order the second time
			r, err := s.Accept(ctx, []registry.ChangeRequest{{Tenant: "Cust2", Type: tenant.Suspend, SourceSequence: 5}})
			return errors.Join(err, r[0].Err)
		}},
		{"CheckStore", false, func() error { _, err := s.CheckStore(ctx, registry.StoreMemory{Process: "p"}); return err }},
		{"AcceptStore", false, func() error {
			_, err := s.AcceptStore(ctx, "identity", registry.StoreMemory{Process: "p"}, kim)
			return err
		}},
		{"ReadFanoutInputs", false, func() error { _, err := s.ReadFanoutInputs(ctx, ids, 100); return err }},
		{"ReplicatedTenants", false, func() error { _, err := s.ReplicatedTenants(ctx, ids); return err }},
		{"HealApp", false, func() error { _, err := s.HealApp(ctx, "sealed", 1, 1<<50, 1); return err }},
		{"AddPendingFanouts", false, func() error { return s.AddPendingFanouts(ctx, ids) }},
		{"RegisterJobs", false, func() error { return s.RegisterJobs(ctx, "job_app1_clear_1") }},
		{"RaiseSequence", false, func() error {
			v, err := s.Tenant(ctx, "Cust1")
			if err == nil {
				_, err = s.RaiseSequence(ctx, v, v.Record.Top+1)
			}
			return err
		}},
		{"PutStatus", false, func() error {
			_, err := s.PutStatus(ctx, registry.StatusRequest{Tenant: "Cust1", State: tenant.Running}, kim)
			return err
		}},
		{"AddApprover", false, func() error { return s.AddApprover(ctx, ids, "app1") }},
		{"RemoveApprover", false, func() error { return s.RemoveApprover(ctx, ids, "app1") }},
		{"putApp", true, func() error {
			_, _, err := s.PutApp(ctx, testApp("app1"), registry.NoRevision, nil, kim, "app.put")
			return err
		}},
		{"DeleteApp", true, func() error { _, err := s.DeleteApp(ctx, "app1", registry.AnyRevision, kim); return err }},
		{"CreateToken", false, func() error {
			_, err := s.CreateToken(ctx, registry.Token{ID: "t1", Name: "n", Role: "admin", CreatedAt: time.UnixMilli(1)}, "h", false, kim)
			return err
		}},
		{"RevokeToken", false, func() error { return s.RevokeToken(ctx, "t1", kim) }},
		{"ClaimIdempotencyKey", false, func() error {
			b, err := s.ClaimIdempotencyKey(ctx, once)
			run = cmp.Or(run, b.Run)
			return err
		}},
		{"SettleIdempotencyKey", false, func() error { _, err := s.SettleIdempotencyKey(ctx, once, run, []byte("done")); return err }},
		{"resealSecret", false, func() error { _, _, err := turned.Reencrypt(ctx, kim); return err }},
		{"RecordReports", false, func() error {
			_, err := engines.RecordReports(ctx, "app2", partner.Mirroring, "k", time.Hour, []registry.Report{{Line: 1, Tenant: "Cust1"}})
			return err
		}},
	}
	var names []string
	for _, c := range calls {
		names = append(names, c.name)
		for _, what := range []string{"the first", "the repeat"} {
			err := c.call()
			if err != nil && (!c.fails || what == "the first") {
				t.Errorf("%s: %s: %v", c.name, what, err)
			}
			if moved, still := moves.Take(); moved == 0 || still > 0 {
				t.Errorf("%s: %s: %d answers moved the offset, %d did not", c.name, what, moved, still)
			}
		}
	}
	slices.Sort(names)
	want := append(durableCalls(t), "RecordReports") // its store is another type, wired with the durable client as a whole
	slices.Sort(want)
	same(t, "calls", names, slices.Compact(want))
}

// turnedKeyring takes each sealed value for an older key's.
type turnedKeyring struct{ registry.Sealer }

// Stale is always true.
func (turnedKeyring) Stale(string) bool { return true }
