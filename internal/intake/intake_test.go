package intake_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestMain(m *testing.M) { redistest.Main(m) }

var errFake = errors.New("connection lost")

// book answers as told.
type book struct {
	results []registry.AcceptResult
	err     error
}

func (b book) Accept(context.Context, []registry.ChangeRequest) ([]registry.AcceptResult, error) {
	return b.results, b.err
}

// bell remembers whose fan-out was started.
type bell struct {
	ids   []string
	ts    [][]tenant.ID
	ended bool
	err   error
}

func (b *bell) Notify(ctx context.Context, id string, ts []tenant.ID) error {
	b.ids, b.ts, b.ended = append(b.ids, id), append(b.ts, ts), ctx.Err() != nil
	return b.err
}

func accepted(t tenant.ID, replayed bool) registry.AcceptResult {
	return registry.AcceptResult{Accepted: registry.Accepted{Tenant: t, Replayed: replayed}}
}

const changesTotal = "lamplighter_state_changes_total"

// counts compares the counters that are not zero.
func counts(t *testing.T, reg *prometheus.Registry, want map[string]float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if v := m.GetCounter().GetValue(); v != 0 {
				got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = v
			}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Each request has its answer in its place; what was accepted, again or anew, is fanned out once
// a tenant, what was refused is not.
func TestAccept(t *testing.T) {
	t.Parallel()
	results := []registry.AcceptResult{accepted("a", false), {Err: registry.ErrKeyReused}, accepted("b", true), accepted("a", false), {Err: registry.ErrOutOfOrder}, {Err: registry.ErrUndecided}}
	reg := prometheus.NewPedanticRegistry()
	b := &bell{}
	in := intake.New(book{results: results}, b, intake.NewMetrics(reg), slog.New(slog.DiscardHandler))
	got, err := in.Accept(t.Context(), []registry.ChangeRequest{
		{Tenant: "a", Type: tenant.Suspend},
		{Tenant: "x", Type: tenant.Move},
		{Tenant: "b", Type: tenant.Upgrade},
		{Tenant: "a", Type: tenant.Suspend},
		{Tenant: "c", Type: tenant.Resume},
		{Tenant: "d", Type: tenant.Resume},
	})
	if err != nil || !cmp.Equal(results, got, cmp.Comparer(func(x, y error) bool { return errors.Is(x, y) })) {
		t.Errorf("%+v, %v", got, err)
	}
	if d := cmp.Diff([][]tenant.ID{{"a", "b"}}, b.ts); d != "" {
		t.Error(d)
	}
	counts(t, reg, map[string]float64{"suspend accepted": 2, "move error": 1, "upgrade replayed": 1, "resume out_of_order": 1, "resume error": 1})
}

func TestAcceptFails(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	b := &bell{}
	in := intake.New(book{err: errFake}, b, intake.NewMetrics(reg), slog.New(slog.DiscardHandler))
	got, err := in.Accept(t.Context(), []registry.ChangeRequest{{Type: tenant.Suspend}, {Type: tenant.Delete}})
	if !errors.Is(err, errFake) || got != nil || len(b.ts) != 0 {
		t.Errorf("%v, %v, started %v", got, err, b.ts)
	}
	counts(t, reg, map[string]float64{"suspend error": 1, "delete error": 1})
}

func TestAcceptNothingGood(t *testing.T) {
	t.Parallel()
	b := &bell{}
	in := intake.New(book{results: []registry.AcceptResult{{Err: errFake}}}, b, nil, slog.New(slog.DiscardHandler))
	if _, err := in.Accept(t.Context(), []registry.ChangeRequest{{}}); err != nil || len(b.ts) != 0 {
		t.Errorf("%v, started %v", err, b.ts)
	}
}

// What is accepted is durable: a fan-out that does not start, or a caller that is gone, changes
// nothing about the answer.
func TestNotifyFailsAlone(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	b := &bell{err: errFake}
	in := intake.New(book{results: []registry.AcceptResult{accepted("a", false)}}, b, nil, slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if got, err := in.Accept(ctx, []registry.ChangeRequest{{}}); err != nil || got[0].Err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if b.ended || len(b.ids) != 2 || b.ids[0] == b.ids[1] || b.ids[0] == "" {
		t.Errorf("context ended %v, ids %q", b.ended, b.ids)
	}
	if !strings.Contains(log.String(), "fan-out not started") {
		t.Error("no log line says that a loop has to do it")
	}
}

// Every series is there from the start, and no other comes.
func TestMetricsSeries(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	m := intake.NewMetrics(reg)
	want := 4*len(tenant.AllChangeTypes()) + 1
	if n := testutil.CollectAndCount(reg, changesTotal); n != want {
		t.Errorf("%d series, want %d", n, want)
	}
	m.CountRefused(3)
	counts(t, reg, map[string]float64{"unknown invalid": 3})
	if n := testutil.CollectAndCount(reg, changesTotal); n != want {
		t.Errorf("%d series afterwards", n)
	}
	(*intake.Metrics)(nil).CountRefused(1) // counts nothing and does not panic
}
