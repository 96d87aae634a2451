package service_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/mailer/smtptest"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

var (
	outageApps = flag.Int("outage.apps", 50, "how many apps fail together in TestManyAppsFailTogether")
	outageRTT  = flag.Duration("outage.rtt", time.Millisecond, "how long a round trip to Redis takes there, besides the machine's own")
	outageFor  = flag.Duration("outage.for", 25*time.Second, "how long they fail there")
)

// The times of the test.
const (
	opensAfter   = 10 * time.Second
	gateAtMost   = 20 * time.Second
	loopsWithin  = 15 * time.Second
	lookEvery    = 2 * time.Second
	outageTenant = "Cust1"
)

// outage is a service whose apps all hear of one tenant, and fail together.
type outage struct {
	*running

	service interface{ Addr(string) string }
	keys    keys.Space
	apps    int
	mu      sync.Mutex
	told    map[string]time.Time
	looked  time.Time
	tries   atomic.Int64
	// urlOf is where the n-th app is.
	urlOf func(n int) string
}

// newOutage has all apps at one host.
func newOutage(t *testing.T, apps int, change func(*config.Config)) *outage {
	t.Helper()
	return newOutageAt(t, apps, func(h http.Handler) func(n int) string {
		receiver := httptest.NewServer(h)
		t.Cleanup(receiver.Close)
		return func(int) string { return receiver.URL }
	}, change)
}

func newOutageAt(t *testing.T, apps int, receive func(http.Handler) func(n int) string, change func(*config.Config)) *outage {
	t.Helper()
	p := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Delay(t, p.Addr, *outageRTT/2), PoolSize: 64, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	o := &outage{running: &running{T: t, rdb: p.Client(t)}, apps: apps, told: map[string]time.Time{}}
	o.status.Store(http.StatusInternalServerError)
	o.urlOf = receive(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := int(o.status.Load())
		o.tries.Add(1)
		if status == http.StatusNoContent {
			o.mu.Lock()
			if _, again := o.told[r.URL.Path]; !again {
				o.told[r.URL.Path] = time.Now()
			}
			o.mu.Unlock()
		}
		w.WriteHeader(status)
	}))
	o.hook = o.urlOf(0)
	cfg := settings(t)
	cfg.Incident.OpenAfter, cfg.Breaker.OpenForMax, cfg.Delivery.Sweep = opensAfter, gateAtMost, 5*time.Second
	change(&cfg)
	o.keys = keys.New(cfg.Redis.Prefix)
	o.seed(cfg)
	s := serve(t, rdb, cfg)
	o.service, o.base = s, "http://"+s.Addr("api")
	return o
}

// seed writes apps, each with one approval and somebody to write to.
func (o *outage) seed(cfg config.Config) {
	o.Helper()
	key, err := secret.ParseKey(cfg.Encryption.Key.Reveal())
	if err != nil {
		o.Fatal(err)
	}
	store := registry.New(o.rdb, registry.Options{Keys: o.keys, Keyring: secret.NewKeyring(key)})
	boxes := mailbox.New(o.rdb, o.keys, mailbox.Settings{})
	ctx := o.Context()
	var next atomic.Int64
	var write sync.WaitGroup
	for range 16 {
		write.Go(func() {
			for n := int(next.Add(1)) - 1; n < o.apps; n = int(next.Add(1)) - 1 {
				id := crowdApp(n)
				app := partner.New(id)
				app.Name, app.EverHadURL = "App", true
				app.ErrorEmails = []string{fmt.Sprintf("people%d@example.com", n)}
				app.Endpoints[partner.StateChange].URL, app.Endpoints[partner.StateChange].Enabled = o.urlOf(n)+"/"+string(id), true
				rec, _, err := store.PutApp(ctx, app, registry.NoRevision, nil, registry.Actor{Name: "seed"}, "app.put")
				if err == nil {
					err = boxes.BeginLife(ctx, mailbox.Life{App: id, Birth: rec.Birth})
				}
				if err != nil {
					o.Error(err)
					return
				}
				o.rdb.HSet(ctx, o.keys.App(id, keys.AppTenants), outageTenant, "0")
				o.rdb.SAdd(ctx, o.keys.Tenant(outageTenant, keys.TenantApprovals), string(id))
			}
		})
	}
	write.Wait()
}

// metrics are the values of the process' series.
func (o *outage) metrics() map[string]float64 {
	o.Helper()
	resp, err := http.Get("http://" + o.service.Addr("ops") + "/metrics")
	if err != nil {
		o.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = v
		}
	}
	return out
}

// late is the loop that was last complete longest ago, and how long.
func late(m map[string]float64, since time.Time) (name string, age time.Duration) {
	for series, at := range m {
		loop, ok := strings.CutPrefix(series, "lamplighter_loop_last_complete_timestamp_seconds{loop=")
		if !ok {
			continue
		}
		last := time.UnixMilli(int64(at * 1000))
		if last.Before(since) {
			last = since
		}
		if a := time.Since(last); a > age {
			name, age = strings.TrimRight(loop, "}"), a
		}
	}
	return name, age
}

// allOpened reports that all apps have an open incident. It looks every few seconds: so many reads are work for Redis, too.
func (o *outage) allOpened() bool {
	o.Helper()
	if time.Since(o.looked) < lookEvery {
		return false
	}
	o.looked = time.Now()
	return o.opened() == o.apps
}

// opened is how many apps have an open incident.
func (o *outage) opened() (n int) {
	o.Helper()
	cmds := make([]*redis.StringCmd, o.apps)
	_, _ = o.rdb.Pipelined(o.Context(), func(p redis.Pipeliner) error {
		for i := range cmds {
			cmds[i] = p.HGet(o.Context(), o.keys.App(crowdApp(i), keys.AppIncidents), partner.StateChange.String())
		}
		return nil
	})
	for _, c := range cmds {
		var state struct {
			ID string `json:"id"`
		}
		if json.Unmarshal([]byte(c.Val()), &state) == nil && state.ID != "" {
			n++
		}
	}
	return n
}

// mailModes are what may become of mails.
func mailModes() map[string]func(t *testing.T, c *config.Config) {
	return map[string]func(t *testing.T, c *config.Config){
		"mail disabled": func(*testing.T, *config.Config) {},
		"mail down": func(_ *testing.T, c *config.Config) {
			c.SMTP.Disabled, c.SMTP.Host, c.SMTP.Port, c.SMTP.From, c.SMTP.TLS = false, "127.0.0.1", 1, "a@example.com", "none"
		},
		"mail works": func(t *testing.T, c *config.Config) {
			s := smtptest.Start(t, smtptest.Options{})
			c.SMTP.Disabled, c.SMTP.Host, c.SMTP.Port, c.SMTP.From, c.SMTP.TLS = false, s.Host, s.Port, "a@example.com", "none"
		},
	}
}

// TestManyAppsFailTogether: whatever becomes of their mails, incidents open in time, the loops come round, and once the apps
// are well all are told in time. With -outage.apps it shows how many it takes.
func TestManyAppsFailTogether(t *testing.T) { //nolint:tparallel // many apps want the machine to themselves
	for name, change := range mailModes() {
		t.Run(name, func(t *testing.T) {
			if *outageApps < 1000 { // more have the machine to themselves
				t.Parallel()
			}
			o := newOutage(t, *outageApps, func(c *config.Config) { change(t, c) })
			o.failAndHeal()
		})
	}
}

// TestManyIncidentsOpenTogether: where no push helps, the loop alone opens them in time, and no loop is late.
func TestManyIncidentsOpenTogether(t *testing.T) { //nolint:tparallel // many apps want the machine to themselves
	for name, change := range mailModes() {
		t.Run(name, func(t *testing.T) {
			if *outageApps < 1000 {
				t.Parallel()
			}
			o := newOutage(t, *outageApps, func(c *config.Config) { change(t, c) })
			began := time.Now()
			opens := began.Add(5 * time.Second)
			_, err := o.rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
				for n := range o.apps {
					s := incident.State{
						FailingSince: opens.Add(-opensAfter).UTC(), SeenSince: opens.Add(-opensAfter).UTC(), SeenAt: began.UTC(), Failures: 3,
						Last: &incident.Failure{Reason: delivery.ReasonServerError, Status: http.StatusInternalServerError, At: began.UTC()},
					}
					p.HSet(t.Context(), o.keys.App(crowdApp(n), keys.AppIncidents), partner.StateChange.String(), s.Encode())
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			w := watch{since: began}
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			var allOpen time.Duration
			for time.Since(began) < *outageFor {
				<-tick.C
				if w.look(o.metrics()); allOpen == 0 && o.allOpened() {
					allOpen = time.Since(opens)
				}
			}
			m := o.metrics()
			o.Logf("%d apps: all incidents open %v after they were due, a loop was late by %v at most (%s); incomplete rounds %v, mails waiting %v",
				o.apps, allOpen, w.age, w.loop, incomplete(m), m["lamplighter_outbox_mails"])
			if allOpen == 0 || allOpen > loopsWithin || w.age > loopsWithin {
				o.Errorf("%d of %d incidents are open", o.opened(), o.apps)
			}
		})
	}
}

// watch keeps which loop was last complete longest ago.
type watch struct {
	since time.Time
	loop  string
	age   time.Duration
}

func (w *watch) look(m map[string]float64) {
	if name, age := late(m, w.since); age > w.age {
		w.loop, w.age = name, age
	}
}

func (o *outage) failAndHeal() {
	o.Helper()
	began := time.Now()
	o.call("POST", "/v1/state-changes", `{"tenant":"`+outageTenant+`","change_type":"suspend"}`)
	w := watch{since: began}
	allOpen := time.Duration(0)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < *outageFor {
		<-tick.C
		w.look(o.metrics())
		if allOpen == 0 && o.allOpened() {
			allOpen = time.Since(began)
		}
	}
	if allOpen == 0 {
		o.Errorf("%d of %d incidents opened within %v", o.opened(), o.apps, *outageFor)
	}
	o.status.Store(http.StatusNoContent)
	well := time.Now()
	left := func() int {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.apps - len(o.told)
	}
	for left() > 0 && time.Since(well) < 3*time.Minute {
		<-tick.C
		w.look(o.metrics())
	}
	last := well
	o.mu.Lock()
	for _, at := range o.told {
		if at.After(last) {
			last = at
		}
	}
	o.mu.Unlock()
	m := o.metrics()
	o.Logf("%d apps: all incidents open after %v, all told %v after they were well, a loop was late by %v at most (%s); tries %d, incomplete rounds %v, mails waiting %v",
		o.apps, allOpen, last.Sub(well), w.age, w.loop, o.tries.Load(), incomplete(m), m["lamplighter_outbox_mails"])
	if n := left(); n > 0 || last.Sub(well) > gateAtMost+loopsWithin {
		o.Errorf("%d apps are not told, the last that was %v after it was well", n, last.Sub(well))
	}
	if w.age > loopsWithin {
		o.Errorf("the loop %s was complete %v ago", w.loop, w.age)
	}
}

func incomplete(m map[string]float64) (n float64) {
	for series, v := range m {
		if strings.HasPrefix(series, "lamplighter_loop_rounds_total") && strings.Contains(series, "incomplete") {
			n += v
		}
	}
	return n
}
