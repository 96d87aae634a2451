package fanout_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var errFake = errors.New("connection lost")

// shim stands between the use cases and the real stores: it writes down the order of calls, fails
// them as told, and lets others act just before one.
type shim struct {
	testing.TB

	rdb redis.UniversalClient
	reg *registry.Store
	box *mailbox.Store
	dir *registry.Directory

	calls []string
	// fails says how the next call of a name fails: "before" or "after" it was applied.
	fails map[string]string
	// refuses are apps whose mailbox takes nothing.
	refuses map[partner.ClientID]bool
	// few are apps whose mailbox takes what comes, while too few replicas confirm it.
	few map[partner.ClientID]bool
	// hook, if set, runs before each call.
	hook  func(name string)
	wakes []partner.ClientID
}

func newShim(t testing.TB, rdb redis.UniversalClient) *shim {
	t.Helper()
	return newShimOn(t, rdb, rdb)
}

// newShimOn is newShim with a client of its own for what must be durable in the registry.
func newShimOn(t testing.TB, rdb, durable redis.UniversalClient) *shim {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	if err != nil {
		t.Fatal(err)
	}
	s := &shim{TB: t, rdb: rdb, box: mailbox.New(rdb, keys.New(""), mailbox.Settings{}), fails: map[string]string{}, refuses: map[partner.ClientID]bool{}, few: map[partner.ClientID]bool{}}
	s.reg = registry.New(rdb, registry.Options{Keyring: secret.NewKeyring(k), Durable: durable})
	s.dir = registry.NewDirectory(s.reg)
	return s
}

// ok fails the test on an error; it returns what came with it.
func ok[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// app registers an app, with a state-change URL or without.
func (s *shim) app(id partner.ClientID, url string) {
	s.Helper()
	a := partner.New(id)
	a.Name = string(id)
	a.Endpoints[partner.StateChange].URL, a.Endpoints[partner.StateChange].Enabled = url, true
	a.EverHadURL = url != ""
	if _, _, err := s.reg.PutApp(s.Context(), a, registry.AnyRevision, nil, registry.Actor{Name: "test"}, "app.put"); err != nil {
		s.Fatal(err)
	}
}

// accept takes a change in, as the intake does.
func (s *shim) accept(id tenant.ID, c tenant.ChangeType) registry.Accepted {
	s.Helper()
	r := registry.ChangeRequest{Tenant: id, Type: c}
	if c == tenant.Move {
		r.PublicEndpoint = "x.example"
	}
	res := ok[[]registry.AcceptResult](s)(s.reg.Accept(s.Context(), []registry.ChangeRequest{r}))
	if res[0].Err != nil {
		s.Fatal(res[0].Err)
	}
	return res[0].Accepted
}

func (s *shim) fanout() *fanout.Fanout {
	return fanout.New(fanout.Options{Tenants: s, Mailboxes: s, Apps: s, Waker: s, Log: slog.New(slog.DiscardHandler)})
}

func (s *shim) approvals() *fanout.Approvals {
	return fanout.NewApprovals(fanout.ApprovalsOptions{Index: s, Admissions: s, Apps: s, Waker: s, Log: slog.New(slog.DiscardHandler)})
}

// standing tells how a tenant stands with an app.
func (s *shim) standing(app partner.ClientID, id tenant.ID) mailbox.PairState {
	s.Helper()
	return ok[[]mailbox.PairState](s)(s.box.ReadPairs(s.Context(), app, []tenant.ID{id}))[0]
}

// waits is the waiting entries of a tenant in short: "status 17 x0, move 18 x1".
func (s *shim) waits(app partner.ClientID, id tenant.ID, since int64) string {
	s.Helper()
	var out []string
	for slot, e := range s.standing(app, id).Entries {
		if e != nil {
			out = append(out, fmt.Sprintf("%v +%d x%d", tenant.Slot(slot), e.Sequence-since, e.Superseded))
		}
	}
	return strings.Join(out, ", ")
}

func (s *shim) do(name string, f func() error) error {
	if s.hook != nil {
		s.hook(name)
	}
	s.calls = append(s.calls, name)
	how := s.fails[name]
	delete(s.fails, name)
	if how == "before" {
		return errFake
	}
	if err := f(); err != nil {
		return err
	}
	if how == "after" {
		return errFake
	}
	return nil
}

func call[T any](s *shim, name string, f func() (T, error)) (v T, err error) {
	err = s.do(name, func() (err error) {
		v, err = f()
		return err
	})
	if err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// ReadFanoutInputs implements fanout.Tenants, with something in between its three steps.
func (s *shim) ReadFanoutInputs(ctx context.Context, ids []tenant.ID, _ int) ([]registry.FanoutInput, error) {
	tickets, err := s.Tickets(ctx, ids)
	if err != nil {
		return nil, err
	}
	views, err := s.ReplicatedTenants(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]registry.FanoutInput, len(ids))
	var owed []tenant.ID
	for i, v := range views {
		if out[i] = (registry.FanoutInput{Ticket: tickets[i], View: v}); v.FanoutPending {
			owed = append(owed, ids[i])
		}
	}
	if len(owed) == 0 {
		return out, nil
	}
	approvers, err := s.ApproversOf(ctx, owed)
	for i := range out {
		if out[i].View.FanoutPending && err == nil {
			out[i].Approvers, approvers = approvers[0], approvers[1:]
		}
	}
	return out, err
}

func (s *shim) NextApprovers(ctx context.Context, of []*registry.FanoutInput, page int) []error {
	errs, err := call(s, "next", func() ([]error, error) { return s.reg.NextApprovers(ctx, of, page), nil })
	if err != nil {
		return slices.Repeat([]error{err}, len(of))
	}
	return errs
}

func (s *shim) Tickets(ctx context.Context, ids []tenant.ID) ([]int64, error) {
	return call(s, "tickets", func() ([]int64, error) { return s.reg.ReadTickets(ctx, ids) })
}

func (s *shim) ReplicatedTenants(ctx context.Context, ids []tenant.ID) ([]registry.TenantView, error) {
	return call(s, "records", func() ([]registry.TenantView, error) { return s.reg.ReplicatedTenants(ctx, ids) })
}

func (s *shim) ApproversOf(ctx context.Context, ids []tenant.ID) ([][]partner.ClientID, error) {
	return call(s, "approvers", func() ([][]partner.ClientID, error) { return s.reg.ApproversOf(ctx, ids) })
}

func (s *shim) CompleteFanouts(ctx context.Context, done []registry.CompletedFanout) error {
	return s.do("clear", func() error { return s.reg.CompleteFanouts(ctx, done) })
}

func (s *shim) AddApprover(ctx context.Context, ids []tenant.ID, app partner.ClientID) error {
	return s.do("index", func() error { return s.reg.AddApprover(ctx, ids, app) })
}

func (s *shim) RemoveApprover(ctx context.Context, ids []tenant.ID, app partner.ClientID) error {
	return s.do("unindex", func() error { return s.reg.RemoveApprover(ctx, ids, app) })
}

func (s *shim) AppendAudit(ctx context.Context, entries ...registry.AuditEntry) error {
	return s.do("audit", func() error { return s.reg.AppendAudit(ctx, entries...) })
}

func (s *shim) RecordUnfinishedApprovals(ctx context.Context, app partner.ClientID, ids []tenant.ID) ([]registry.UnfinishedApproval, error) {
	return call(s, "note", func() ([]registry.UnfinishedApproval, error) { return s.reg.RecordUnfinishedApprovals(ctx, app, ids) })
}

func (s *shim) FinishApprovals(ctx context.Context, done []registry.UnfinishedApproval) error {
	return s.do("settle", func() error { return s.reg.FinishApprovals(ctx, done) })
}

func (s *shim) Dismissals(ctx context.Context, app partner.ClientID) (int64, error) {
	return call(s, "dismissals", func() (int64, error) { return s.box.Dismissals(ctx, app) })
}

func (s *shim) ReadPairs(ctx context.Context, app partner.ClientID, ts []tenant.ID) ([]mailbox.PairState, error) {
	return call(s, "inspect", func() ([]mailbox.PairState, error) { return s.box.ReadPairs(ctx, app, ts) })
}

func (s *shim) Approve(ctx context.Context, life mailbox.Life, since int64, ts []mailbox.Admission) (int, error) {
	return call(s, "admit", func() (int, error) { return s.box.Approve(ctx, life, since, ts) })
}

func (s *shim) ApproveNew(ctx context.Context, life mailbox.Life, since int64, ts []mailbox.Admission) (int, error) {
	n, err := call(s, "admit", func() (int, error) { return s.box.ApproveNew(ctx, life, since, ts) })
	return n, s.short(life.App, err)
}

func (s *shim) RequestResync(ctx context.Context, life mailbox.Life, ts []mailbox.Admission) (int, error) {
	return call(s, "again", func() (int, error) { return s.box.RequestResync(ctx, life, ts) })
}

func (s *shim) Dismiss(ctx context.Context, life mailbox.Life, ts []tenant.ID) (int, error) {
	n, err := call(s, "dismiss", func() (int, error) { return s.box.Dismiss(ctx, life, ts) })
	return n, s.short(life.App, err)
}

// short is the error of a call that went well, but for replicas.
func (s *shim) short(app partner.ClientID, err error) error {
	if err == nil && s.few[app] {
		return errFake
	}
	return err
}

func (s *shim) Deposit(ctx context.Context, life mailbox.Life, nonce string, recs []tenant.Record) (mailbox.DepositResult, error) {
	d, err := call(s, "deposit", func() (mailbox.DepositResult, error) { return s.box.Deposit(ctx, life, nonce, recs) })
	return d, s.short(life.App, err)
}

func (s *shim) ReadFormerApprovals(ctx context.Context, life mailbox.Life) ([]tenant.ID, error) {
	return call(s, "former", func() ([]tenant.ID, error) { return s.box.ReadFormerApprovals(ctx, life) })
}

func (s *shim) RemoveFormerApprovals(ctx context.Context, c mailbox.JobClaim, ts []tenant.ID) (int, error) {
	return call(s, "cleared", func() (int, error) { return s.box.RemoveFormerApprovals(ctx, c, ts) })
}

// remove deletes an app and ends its life, as the service does.
func (s *shim) remove(app partner.ClientID) {
	s.Helper()
	revision := ok[int64](s)(s.reg.DeleteApp(s.Context(), app, registry.AnyRevision, registry.Actor{Name: "test"}))
	if err := s.box.EndLife(s.Context(), mailbox.Life{App: app, Birth: revision}); err != nil {
		s.Fatal(err)
	}
}

// life is that of an app as it is in the settings.
func (s *shim) life(app partner.ClientID) mailbox.Life {
	s.Helper()
	return mailbox.Life{App: app, Birth: ok[registry.AppRecord](s)(s.reg.App(s.Context(), app)).Birth}
}

func (s *shim) DepositMany(ctx context.Context, nonce string, batches []mailbox.Batch) ([]mailbox.DepositResult, []error) {
	var out []mailbox.DepositResult
	var errs []error
	err := s.do("deposit", func() error {
		out, errs = s.box.DepositMany(ctx, nonce, batches)
		return nil
	})
	if out == nil {
		out, errs = make([]mailbox.DepositResult, len(batches)), make([]error, len(batches))
	}
	for i, b := range batches {
		if err != nil || s.refuses[b.Life.App] {
			out[i], errs[i] = mailbox.DepositResult{}, errFake
		}
		if s.few[b.Life.App] {
			errs[i] = errFake
		}
	}
	return out, errs
}

func (s *shim) Refresh(ctx context.Context) error {
	return s.do("refresh", func() error { return s.dir.Refresh(ctx) })
}

func (s *shim) Lookup(id partner.ClientID) (*registry.Entry, bool, error) { return s.dir.Lookup(id) }

func (s *shim) Wake(_ context.Context, app partner.ClientID, _ mailbox.Wake) error {
	return s.do("wake", func() error {
		s.wakes = append(s.wakes, app)
		return nil
	})
}
