package compare_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/compare"
	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestMain(m *testing.M) { redistest.Main(m) }

const hook = "https://app.example/hook"

// world is a registry with its mailboxes, as the service wires them, and a clock of its own.
type world struct {
	testing.TB
	rdb  redis.UniversalClient
	keys keys.Space
	reg  *registry.Store
	box  *mailbox.Store
	dir  *registry.Directory

	fan       *fanout.Fanout
	approvals *fanout.Approvals
	now       time.Time
	// ahead is how far Redis' clock is said to be ahead when pairs are read: so no app's URL is fresh.
	ahead time.Duration
	// primaries is what Redis says it is.
	primaries string
	metrics   *prometheus.Registry
	comparer  *compare.Comparer
	slow      float64
	// saved is how far the comparison came, as it last wrote.
	saved registry.Comparison
	// around, if any, happens before and behind the next look at the calls under way.
	around [2]func()
}

func each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) { f(t, newWorld(t, rdb)) })
}

func newWorld(t testing.TB, rdb redis.UniversalClient) *world {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		TB: t, rdb: rdb, keys: keys.New(""), reg: registry.New(rdb, registry.Options{Keyring: secret.NewKeyring(k)}),
		box: mailbox.New(rdb, keys.New(""), mailbox.Settings{}), now: time.Now(), ahead: time.Hour, primaries: "one", slow: 1e6,
	}
	w.dir = registry.NewDirectory(w.reg)
	log := slog.New(slog.DiscardHandler)
	w.fan = fanout.New(fanout.Options{Tenants: w.reg, Mailboxes: w.box, Apps: w.dir, Waker: nobody{}, Log: log})
	w.approvals = fanout.NewApprovals(fanout.ApprovalsOptions{Index: w.reg, Admissions: w.box, Apps: w.dir, Waker: nobody{}, Log: log})
	w.restart()
	return w
}

// restart lets another process compare from now on.
func (w *world) restart() {
	if w.comparer != nil { // it was killed: its lease runs out
		w.must(w.rdb.Del(w.Context(), w.keys.Config(keys.ConfigLeases)+":comparison").Err())
	}
	w.metrics = prometheus.NewRegistry()
	w.comparer = compare.New(w.options())
}

func (w *world) options() compare.Options {
	return compare.Options{
		Registry: later{w.reg, w}, Mailboxes: w.box, Approvals: w.approvals, Jobs: worker{w}, Apps: w.dir,
		Primaries: func(context.Context) (string, error) { return w.primaries, nil },
		Metrics:   compare.NewMetrics(w.metrics), Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return w.now }, Pace: compare.Pace{Slow: w.slow, Fast: 10 * w.slow},
	}
}

// compareAlways lets another process compare round after round, by the machine's clock.
func (w *world) compareAlways() {
	w.must(w.rdb.Del(w.Context(), w.keys.Config(keys.ConfigLeases)+":comparison", w.keys.Config(keys.ConfigComparison)).Err())
	w.now = time.Now()
	w.metrics = prometheus.NewRegistry()
	o := w.options()
	o.Now, o.Pace = nil, compare.Pace{Slow: 1e5, Fast: 1e5, Again: 300 * time.Millisecond, Rest: time.Millisecond}
	w.comparer = compare.New(o)
}

// worker has an app told by a job, and makes all its pages at once.
type worker struct{ w *world }

// CatchUp implements compare.Jobs.
func (r worker) CatchUp(ctx context.Context, app partner.ClientID) error {
	id, _, err := r.w.box.MakeDepositJob(ctx, r.w.life(app), mailbox.JobID{App: app, Kind: mailbox.JobCatchUp, Number: r.w.now.UnixMicro()}, "", "")
	if err != nil {
		return err
	}
	c, _, _, err := r.w.box.ClaimJob(ctx, id, "worker")
	for ended := false; !ended && err == nil; {
		ended, err = r.w.approvals.AdvanceJob(ctx, &c)
	}
	return err
}

type nobody struct{}

func (nobody) Wake(context.Context, partner.ClientID, mailbox.Wake) error { return nil }

// later is the registry with a clock that is ahead.
type later struct {
	*registry.Store
	w *world
}

func (l later) ReadTenantSides(ctx context.Context, app partner.ClientID, ids []tenant.ID) ([]registry.TenantSide, time.Time, error) {
	peeks, now, err := l.Store.ReadTenantSides(ctx, app, ids)
	return peeks, now.Add(l.w.ahead), err
}

func (l later) CollectUnfinishedApprovals(ctx context.Context, limit int) ([]registry.UnfinishedApproval, bool, error) {
	around := l.w.around
	if l.w.around = [2]func(){}; around[0] == nil {
		return l.Store.CollectUnfinishedApprovals(ctx, limit)
	}
	around[0]()
	defer around[1]()
	return l.Store.CollectUnfinishedApprovals(ctx, limit)
}

func (l later) SaveComparison(ctx context.Context, c registry.Comparison) error {
	l.w.saved = c
	return l.Store.SaveComparison(ctx, c)
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

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

func (w *world) app(id partner.ClientID, url string) {
	w.Helper()
	a := partner.New(id)
	a.Name = string(id)
	a.Endpoints[partner.StateChange].URL, a.Endpoints[partner.StateChange].Enabled = url, true
	a.EverHadURL = url != ""
	_, _, err := w.reg.PutApp(w.Context(), a, registry.AnyRevision, nil, registry.Actor{Name: "test"}, "app.put")
	w.must(err)
	w.must(w.dir.Refresh(w.Context()))
}

// life is that of an app in the settings.
func (w *world) life(id partner.ClientID) mailbox.Life {
	w.Helper()
	return mailbox.Life{App: id, Birth: ok[registry.AppRecord](w)(w.reg.App(w.Context(), id)).Birth}
}

func (w *world) accept(id tenant.ID, c tenant.ChangeType) int64 {
	w.Helper()
	r := registry.ChangeRequest{Tenant: id, Type: c}
	if c == tenant.Move {
		r.PublicEndpoint = "x.example"
	}
	res := ok[[]registry.AcceptResult](w)(w.reg.Accept(w.Context(), []registry.ChangeRequest{r}))
	w.must(res[0].Err)
	return res[0].Accepted.Sequence
}

func (w *world) fanout(ids ...tenant.ID) {
	w.Helper()
	w.must(w.fan.Run(w.Context(), ids))
}

func (w *world) change(id tenant.ID, c tenant.ChangeType) int64 {
	w.Helper()
	seq := w.accept(id, c)
	w.fanout(id)
	return seq
}

func (w *world) approve(app partner.ClientID, ids ...tenant.ID) {
	w.Helper()
	w.must(w.approvals.Approve(w.Context(), app, ids, registry.Actor{Name: "test"}))
}

func (w *world) standing(app partner.ClientID, id tenant.ID) mailbox.PairState {
	w.Helper()
	return ok[[]mailbox.PairState](w)(w.box.ReadPairs(w.Context(), app, []tenant.ID{id}))[0]
}

func (w *world) view(id tenant.ID) registry.TenantView {
	w.Helper()
	return ok[registry.TenantView](w)(w.reg.Tenant(w.Context(), id))
}

func (w *world) index(id tenant.ID) []partner.ClientID {
	w.Helper()
	return ok[[]partner.ClientID](w)(w.reg.Approvers(w.Context(), id))
}

// sweep starts the fan-outs that are owed, as the sweep does.
func (w *world) sweep() {
	w.Helper()
	for _, o := range ok[[]registry.PendingFanout](w)(w.reg.ListPendingFanouts(w.Context(), 0, registry.PendingFanout{}, 500)) {
		w.fanout(o.Tenant)
	}
}

// round compares until a round ends, and returns how long that took and what it closed.
func (w *world) round() (time.Duration, map[string]int) {
	w.Helper()
	before := w.closed()
	start := w.now
	done := w.saved.Completed.UnixMilli()
	for range 10_000_000 {
		wait, err := w.comparer.Step(w.Context())
		w.must(err)
		w.now = w.now.Add(max(wait, time.Millisecond))
		if w.saved.Completed.UnixMilli() != done {
			after := w.closed()
			for k, n := range before {
				if after[k] -= n; after[k] == 0 {
					delete(after, k)
				}
			}
			return w.now.Sub(start), after
		}
	}
	w.Fatal("no round ended")
	return 0, nil
}

// closed counts the gaps that were closed, by kind.
func (w *world) closed() map[string]int {
	w.Helper()
	out := map[string]int{}
	for _, f := range ok[[]*dto.MetricFamily](w)(w.metrics.Gather()) {
		if f.GetName() != "lamplighter_comparison_gaps_closed_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if n := int(m.GetCounter().GetValue()); n > 0 {
				out[m.GetLabel()[0].GetValue()] = n
			}
		}
	}
	return out
}

// want fails unless a round closed exactly these gaps.
func (w *world) want(kinds map[string]int) {
	w.Helper()
	if _, got := w.round(); !maps.Equal(got, kinds) {
		w.Errorf("closed %v, want %v", got, kinds)
	}
}

// whole fails unless every pair is as it should be, once owed fan-outs ran.
func (w *world) whole(apps []partner.ClientID, ids ...tenant.ID) {
	w.Helper()
	w.sweep()
	for _, id := range ids {
		v, index := w.view(id), w.index(id)
		for _, app := range apps {
			st := w.standing(app, id)
			if st.Approved != slices.Contains(index, app) {
				w.Errorf("%s of %s: approved %v, index %v", id, app, st.Approved, index)
			}
			if st.Approved && (st.Known != v.Record.Top || st.Again || v.FanoutPending) {
				w.Errorf("%s of %s: knows %d (again %v), the record %d (owed %v)", id, app, st.Known, st.Again, v.Record.Top, v.FanoutPending)
			}
		}
	}
}

// tell posts all that waits in a mailbox, and returns what it told.
func (w *world) tell(app partner.ClientID) (told []string) {
	w.Helper()
	token := fmt.Sprint(w.now.UnixNano(), app)
	begun := ok[mailbox.BeginResult](w)(w.box.Begin(w.Context(), w.life(app), token, 0))
	if begun.State != mailbox.Owned {
		w.Fatalf("begin: %+v", begun)
	}
	var results []mailbox.Settlement
	for {
		x := ok[mailbox.ExchangeResult](w)(w.box.Exchange(w.Context(), w.life(app), token, 100, results))
		if results = nil; len(x.Claims) == 0 {
			break
		}
		for _, c := range x.Claims {
			m, err := c.Entry.Message(app, c.Tenant)
			w.must(err)
			told = append(told, fmt.Sprintf("%s %v", c.Tenant, m.Change.Type))
			results = append(results, mailbox.Settlement{Claim: c, Result: mailbox.OK})
		}
	}
	ok[mailbox.FinishResult](w)(w.box.Finish(w.Context(), w.life(app), token, mailbox.Closing{Force: true}))
	return told
}

// slot is what lies in one hash slot: key -> content.
type slot map[string]any

// snapshot remembers what lies in a slot, but for expiries.
func (w *world) snapshot(tag string) slot {
	w.Helper()
	ctx, out := w.Context(), slot{}
	for _, key := range w.keysOf(tag) {
		switch kind := ok[string](w)(w.rdb.Type(ctx, key).Result()); kind {
		case "hash":
			out[key] = ok[map[string]string](w)(w.rdb.HGetAll(ctx, key).Result())
		case "set":
			out[key] = ok[[]string](w)(w.rdb.SMembers(ctx, key).Result())
		case "zset":
			out[key] = ok[[]redis.Z](w)(w.rdb.ZRangeWithScores(ctx, key, 0, -1).Result())
		case "string":
			out[key] = ok[string](w)(w.rdb.Get(ctx, key).Result())
		case "stream", "list":
		default:
			w.Fatalf("%s is a %s", key, kind)
		}
	}
	return out
}

func (w *world) keysOf(tag string) (out []string) {
	w.Helper()
	for _, key := range ok[[]string](w)(w.rdb.Keys(w.Context(), "*").Result()) {
		if strings.Contains(key, ":{"+tag+"}:") && !strings.Contains(key, ":lease:") {
			out = append(out, key)
		}
	}
	return out
}

// lose puts a slot back to what it was, as a failover does that loses the last writes.
func (w *world) lose(tag string, was slot) {
	w.Helper()
	ctx := w.Context()
	for _, key := range w.keysOf(tag) {
		w.must(w.rdb.Del(ctx, key).Err())
	}
	for key, v := range was {
		switch v := v.(type) {
		case map[string]string:
			w.must(w.rdb.HSet(ctx, key, v).Err())
		case []string:
			w.must(w.rdb.SAdd(ctx, key, strings2any(v)...).Err())
		case []redis.Z:
			w.must(w.rdb.ZAdd(ctx, key, v...).Err())
		case string:
			w.must(w.rdb.Set(ctx, key, v, 0).Err())
		}
	}
}

func strings2any(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
