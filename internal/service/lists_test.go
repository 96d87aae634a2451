package service_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/registry/registrytest"
	"github.com/lamplighter/lamplighter/internal/secret"
)

var (
	listedApps  = flag.Int("lists.apps", 1100, "among how many apps TestListsAmongManyApps lists, beside 100")
	listsRounds = flag.Int("lists.rounds", 5, "how often it asks for each page")
)

// trips counts round trips to Redis that HTTP requests make. The service has some of its own now and then.
type trips struct{ n atomic.Int64 }

func (c *trips) count(ctx context.Context) {
	if ctx.Value(http.ServerContextKey) != nil {
		c.n.Add(1)
	}
}

func (c *trips) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.count(ctx)
		return next(ctx, cmd)
	}
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.count(ctx)
		return next(ctx, cmds)
	}
}

// crowd is a service with many apps, each with an open incident, two ended ones and a token; the first
// has as many approvals as there are apps.
type crowd struct {
	*running

	apps  int
	trips trips
}

func crowdApp(n int) partner.ClientID { return partner.ClientID(fmt.Sprintf("app%05d", n)) }

func newCrowd(t *testing.T, apps int) *crowd {
	t.Helper()
	rdb := redistest.Real(t)
	cfg := settings(t)
	cfg.Roles = []string{"api"} // nothing else asks Redis meanwhile, or nearly nothing
	c := &crowd{running: &running{T: t, rdb: rdb}, apps: apps}
	c.seed(cfg)
	rdb.AddHook(&c.trips)
	c.base = "http://" + serve(t, rdb, cfg).Addr("api")
	var lines strings.Builder
	for n := range apps {
		fmt.Fprintf(&lines, `{"tenant":"Cust%05d"}`+"\n", n)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.base+"/v1/apps/"+string(crowdApp(0))+"/approvals", strings.NewReader(lines.String()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
	return c
}

// seed writes what the lists show.
func (c *crowd) seed(cfg config.Config) {
	c.Helper()
	key, err := secret.ParseKey(cfg.Encryption.Key.Reveal())
	if err != nil {
		c.Fatal(err)
	}
	store := registry.New(c.rdb, registry.Options{Keys: keys.New(cfg.Redis.Prefix), Keyring: secret.NewKeyring(key)})
	incidents := registry.NewIncidentStore(c.rdb, keys.New(cfg.Redis.Prefix), 0)
	now, actor := time.Now().UTC().Truncate(time.Millisecond), registry.Actor{Name: "seed"}
	ctx := c.Context()
	var write sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, 16)
	one := func(n int) error {
		id := crowdApp(n)
		app := partner.New(id)
		app.Name, app.EverHadURL = "App", true
		app.Endpoints[partner.StateChange].URL, app.Endpoints[partner.StateChange].Enabled = "https://partner.example/hook", true
		if _, _, err := store.PutApp(ctx, app, registry.NoRevision, nil, actor, "app.put"); err != nil {
			return err
		}
		t := registry.Token{ID: fmt.Sprint("tok", n), Name: "Portal", Role: "partner:" + string(id), CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
		if _, err := store.CreateToken(ctx, t, fmt.Sprint("hash", n), false, actor); err != nil {
			return err
		}
		// The later the app, the older its incidents; ten of each moment.
		return seedIncidents(ctx, incidents, id, now.Add(-time.Duration(n/10)*time.Second))
	}
	for i := range errs {
		write.Go(func() {
			for n := int(next.Add(1)) - 1; n < c.apps && errs[i] == nil; n = int(next.Add(1)) - 1 {
				errs[i] = one(n)
			}
		})
	}
	write.Wait()
	if err := errors.Join(errs...); err != nil {
		c.Fatal(err)
	}
}

func seedIncidents(ctx context.Context, store *registry.IncidentStore, id partner.ClientID, opened time.Time) error {
	for i, k := range []partner.EndpointKind{partner.StateChange, partner.StateChange, partner.Mirroring} {
		began := opened.Add(-time.Duration(i) * time.Minute)
		name := incident.NewID(id, k, began)
		step := incident.Decision{State: incident.State{ID: name, Since: began, OpenedAt: began}}
		if i > 0 {
			step = incident.Decision{Ended: &incident.EndedIncident{ID: name, ClientID: id, Endpoint: k, Since: began, OpenedAt: began, EndedAt: began.Add(time.Second), Ending: incident.EndRecovered}}
		}
		if _, err := registrytest.Decide(ctx, store, id, k, func(old incident.State) incident.Decision {
			if i == 1 { // the open one stays
				step.State = old
			}
			return step
		}); err != nil {
			return err
		}
	}
	return nil
}

// cost is what one page takes.
type cost struct {
	trips    int64
	p50, p99 time.Duration
}

// page measures a page, and returns the cursor of the next.
func (c *crowd) page(path string) (cost, string) {
	c.Helper()
	rounds := *listsRounds
	var took []time.Duration
	var fewest int64
	var answer map[string]any
	for range rounds {
		before, start := c.trips.n.Load(), time.Now()
		answer = c.call("GET", path, "")
		took = append(took, time.Since(start))
		if n := c.trips.n.Load() - before; fewest == 0 || n < fewest { // one may note the token's use
			fewest = n
		}
	}
	slices.Sort(took)
	next, _ := answer["next_cursor"].(string)
	return cost{fewest, took[rounds/2], took[rounds*99/100]}, next
}

// lists are the pages that are measured.
var lists = []string{ //nolint:gochecknoglobals // never changed
	"/v1/apps", "/v1/apps/app00000/approvals", "/v1/apps/app00000/deliveries",
	"/v1/tokens", "/v1/tokens?role=partner:app00050", "/v1/audit", "/v1/audit?subject=app00050",
	"/v1/incidents", "/v1/incidents?client_id=app00050", "/v1/incidents?state=closed", "/v1/incidents?state=closed&endpoint=mirroring",
	"/v1/incidents?endpoint=quote_connector",
}

// costs measures the first and a deep page of each list.
func (c *crowd) costs() map[string]cost {
	c.Helper()
	out := map[string]cost{}
	for _, path := range lists {
		first, next := c.page(path)
		out[path] = first
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		for deep := 0; next != "" && deep < 1000; deep++ { // to the last page that is not the last
			at := path + sep + "limit=500&cursor=" + url.QueryEscape(next)
			next, _ = c.call("GET", at, "")["next_cursor"].(string)
			if next == "" {
				out[path+" (last page)"], _ = c.page(at)
			}
		}
	}
	return out
}

// TestListsAmongManyApps: a page costs as many round trips among many apps as among a hundred, but for
// the incidents of all apps, which take up to three more for each further thousand apps, and a few where a
// filter leaves little. For the figures among 10,000 apps: -v -args -lists.apps=10000 -lists.rounds=50.
func TestListsAmongManyApps(t *testing.T) {
	t.Parallel()
	few, many := newCrowd(t, 100).costs(), newCrowd(t, *listedApps).costs()
	for path, got := range many {
		want, ok := few[path]
		if first, deep := strings.CutSuffix(path, " (last page)"); !ok && deep { // a hundred have one page
			want = few[first]
		}
		t.Logf("%-60s %3d round trips (%d among 100 apps), p50 %v, p99 %v", path, got.trips, want.trips, got.p50.Round(10*time.Microsecond), got.p99.Round(10*time.Microsecond))
		allowed := want.trips
		switch {
		case strings.HasPrefix(path, "/v1/incidents") && !strings.Contains(path, "client_id"):
			allowed += 3*int64(*listedApps/1000) + 8
		case strings.HasPrefix(path, "/v1/audit?"):
			allowed += 20 // at 500 entries each it looks at 10,000
		case path == "/v1/apps (last page)", strings.HasPrefix(path, "/v1/tokens"):
			allowed += 2 // a page of 500 is read 200 at a time, so that no script takes long
		}
		if got.trips > allowed {
			t.Errorf("%s takes %d round trips among %d apps and %d among 100", path, got.trips, *listedApps, want.trips)
		}
	}
}
