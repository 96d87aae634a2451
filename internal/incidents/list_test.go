package incidents_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/incidents"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/registry/registrytest"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// crowd is many apps on a real server, each with an open incident and two ended ones.
type crowd struct {
	*testing.T

	rdb   redis.UniversalClient
	space keys.Space
	store *registry.IncidentStore
	all   *incidents.Manager
}

// noSealer is for apps without secrets.
type noSealer struct{ registry.Sealer }

func appID(n int) partner.ClientID { return partner.ClientID(fmt.Sprintf("app%05d", n)) }

func newCrowd(t *testing.T, apps int) *crowd {
	t.Helper()
	rdb, space := redistest.Real(t), keys.New("test")
	settings := registry.New(rdb, registry.Options{Keys: space, Keyring: noSealer{}})
	c := &crowd{T: t, rdb: rdb, space: space, store: registry.NewIncidentStore(rdb, space, 0)}
	now := time.Now().UTC().Truncate(time.Millisecond)
	for n := range apps {
		app := partner.New(appID(n))
		app.Name = "App"
		if _, _, err := settings.PutApp(t.Context(), app, registry.NoRevision, nil, registry.Actor{Name: "test"}, "app.put"); err != nil {
			t.Fatal(err)
		}
		// The later the app, the older its incidents; ten of each moment.
		c.addIncidents(app.ClientID, now.Add(-time.Duration(n/10)*time.Second))
	}
	c.all = incidents.New(incidents.Options{Store: c.store, Apps: registry.NewDirectory(settings), Tracker: noTracker{}, Audit: &auditLog{}})
	return c
}

// addIncidents writes an open incident of an app and two that ended a second after they had opened.
func (c *crowd) addIncidents(id partner.ClientID, opened time.Time) {
	c.Helper()
	for i, k := range []partner.EndpointKind{partner.StateChange, partner.StateChange, partner.Mirroring} {
		began := opened.Add(-time.Duration(i) * time.Minute)
		name := incident.NewID(id, k, began)
		step := incident.Decision{State: incident.State{ID: name, Since: began, OpenedAt: began}}
		if i > 0 {
			step = incident.Decision{Ended: &incident.EndedIncident{ID: name, ClientID: id, Endpoint: k, Since: began, OpenedAt: began, EndedAt: began.Add(time.Second), Ending: incident.EndRecovered}}
		}
		if _, err := registrytest.Decide(c.Context(), c.store, id, k, func(old incident.State) incident.Decision {
			if i == 1 { // the open one stays
				step.State = old
			}
			return step
		}); err != nil {
			c.Fatal(err)
		}
	}
}

// page reads one page.
func (c *crowd) page(q incidents.Query) ([]incidents.Incident, string) {
	c.Helper()
	list, next, err := c.all.ListIncidents(c.Context(), q)
	if err != nil {
		c.Fatal(err)
	}
	return list, next
}

// TestPagesAreWhole: each incident is on one page, in the order that is promised, whatever the size of the pages and
// the filter.
func TestPagesAreWhole(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, 30)
	for _, test := range []struct {
		q    incidents.Query
		want int
	}{
		{incidents.Query{}, 90},
		{incidents.Query{State: incidents.Open}, 30},
		{incidents.Query{State: incidents.Closed}, 60},
		{incidents.Query{Endpoint: "mirroring"}, 30},
		{incidents.Query{State: incidents.Closed, Endpoint: "state_change"}, 30},
		{incidents.Query{App: "app00007"}, 3},
		{incidents.Query{App: "nobody"}, 0},
	} {
		for _, limit := range []int{7, 500} {
			var all []incidents.Incident
			q := test.q
			for q.Limit = limit; ; {
				list, next := c.page(q)
				all = append(all, list...)
				if q.After = next; next == "" {
					break
				}
			}
			seen := map[string]bool{}
			for i := range all {
				seen[all[i].ID] = true
				if i > 0 && orderOf(&all[i-1]) > orderOf(&all[i]) {
					t.Errorf("%+v by %d: %+v comes before %+v", test.q, limit, all[i-1], all[i])
				}
			}
			if len(all) != test.want || len(seen) != test.want {
				t.Errorf("%+v by %d: %d incidents, %d different, want %d", test.q, limit, len(all), len(seen), test.want)
			}
		}
	}
}

// orderOf is a text by which incidents sort as the list does.
func orderOf(i *incidents.Incident) string {
	state, at := "0", i.OpenedAt
	if i.State == incidents.Closed {
		state, at = "1", i.ClosedAt
	}
	return fmt.Sprintf("%s %020d %s", state, 1<<60-at.UnixMilli(), i.ID)
}

// TestForeignPositions: what the list did not return is refused.
func TestForeignPositions(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, 1)
	for _, after := range []string{"x", "open", "open 1", "open one id", "ended 1 id", "open 1 id more"} {
		if _, _, err := c.all.ListIncidents(t.Context(), incidents.Query{After: after}); !errors.Is(err, incidents.ErrCursor) {
			t.Errorf("%q: %v", after, err)
		}
	}
}

// entriesRead counts the ended incidents that Redis returns.
type entriesRead struct{ all, most atomic.Int64 }

func (*entriesRead) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*entriesRead) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (e *entriesRead) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		n := int64(0)
		for _, cmd := range cmds {
			if list, ok := cmd.(*redis.StringSliceCmd); ok && cmd.Name() == "zrevrangebyscore" {
				n += int64(len(list.Val()))
			}
		}
		e.all.Add(n)
		e.most.Store(max(e.most.Load(), n))
		return err
	}
}

// TestPagesReadLittle: where apps have many ended incidents, a page reads about as many as it shows, and with a filter
// never more than it may at once.
func TestPagesReadLittle(t *testing.T) {
	t.Parallel()
	const apps, of = 60, 400
	c := newCrowd(t, apps)
	now := time.Now().UTC().Truncate(time.Second)
	var ids []string // the last ended first
	for n := range of {
		_, err := c.rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for a := range apps {
				at := now.Add(time.Hour - time.Duration(n*apps+a)*time.Millisecond) // after all that the crowd has
				one := incident.EndedIncident{ID: fmt.Sprintf("inc%02d-%03d", a, n), ClientID: appID(a), Endpoint: partner.StateChange, EndedAt: at, Ending: incident.EndRecovered}
				one.Format = 1
				text, err := json.Marshal(one)
				if err != nil {
					return err
				}
				ids = append(ids, one.ID)
				p.ZAdd(t.Context(), c.space.App(appID(a), keys.AppHistory), redis.Z{Score: float64(at.UnixMilli()), Member: text})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var read entriesRead
	c.rdb.AddHook(&read)
	for _, test := range []struct {
		limit     int
		endpoint  string
		all, most int64 // that may be read for a page
	}{
		{20, "", 100, 100},
		{100, "", 60 * 110, 60 * 110}, // fewer apps than it shows: the newest of each
		{500, "", 20_000, 20_000},
		{500, "state_change", 22_000, 20_000},
	} {
		q, shown := incidents.Query{State: incidents.Closed, Endpoint: test.endpoint, Limit: test.limit}, []string(nil)
		for range 3 {
			read.all.Store(0)
			read.most.Store(0)
			list, next := c.page(q)
			for i := range list {
				shown = append(shown, list[i].ID)
			}
			q.After = next
			if all, most := read.all.Load(), read.most.Load(); all > test.all || most > test.most {
				t.Errorf("a page of %d %s reads %d incidents, %d at once, want at most %d, %d", test.limit, test.endpoint, all, most, test.all, test.most)
			}
		}
		if !slices.Equal(shown, ids[:3*test.limit]) {
			t.Errorf("by %d %s: %d incidents, others than the last ended", test.limit, test.endpoint, len(shown))
		}
	}
}
