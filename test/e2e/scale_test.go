//go:build soak

package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

func numberOr(n, own int) int {
	if n > 0 {
		return n
	}
	return own
}

// tellsAfter reports a change of tenant 0 and returns how long after it the apps were told, in ascending order.
func (s *scale) tellsAfter(kind string, from, to int, within time.Duration) []time.Duration {
	s.t.Helper()
	s.crowd.forget()
	sent := s.change(kind, 1)
	s.told(to-from, within)
	return s.crowd.waits(from, to, sent)
}

// alternate is a change that differs from the one before.
func alternate(round int) string { return []string{"suspend", "resume"}[round%2] }

// TestScaleOneTenantManyApps: thousands of apps hear of one tenant.
func TestScaleOneTenantManyApps(t *testing.T) {
	apps := numberOr(*scaleApps, 3000)
	s := newScale(t, *scaleRTT, apps, 1)
	p := s.serve("api,worker")
	s.register("Cust0")
	for round := range 5 {
		waits := s.tellsAfter(alternate(round), 0, apps, time.Minute)
		t.Logf("round %d: %d apps told; p50 %v, p99 %v, last %v", round, len(waits), quantile(waits, .5), quantile(waits, .99), quantile(waits, 1))
	}
	t.Logf("process: peak %d MB", p.peak())
}

// TestScaleHangingApps: most apps hang; the others are told nearly as soon as if none did, by a process to which all
// answered before and by one that knows of none.
func TestScaleHangingApps(t *testing.T) {
	for _, c := range []struct{ apps, hang int }{{3000, 2200}, {2000, 900}} {
		t.Run(scaleApp(c.hang), func(t *testing.T) {
			s := newScale(t, 0, c.apps, 1)
			p := s.serve("api,worker")
			s.register("Cust0")
			round := 0
			tell := func(answering int) []time.Duration { // when the healthy ones were told
				round++
				s.crowd.forget()
				sent := s.change(alternate(round), 1)
				s.told(answering, 2*time.Minute)
				return s.crowd.waits(c.hang, c.apps, sent)
			}
			restart := func() {
				s.settle()
				if err := p.terminate(); err != nil { // a kill would leave claims that run out one by one
					t.Fatal(err)
				}
				p.start()
			}
			for _, when := range []string{"warm", "fresh"} {
				var none, hang []time.Duration
				for range 3 {
					if when == "fresh" {
						restart()
					}
					none = append(none, tell(c.apps)...)
					s.settle()
				}
				for range 3 {
					if when == "fresh" {
						restart()
					}
					s.crowd.behave(0, c.hang, neverAnswers)
					hang = append(hang, tell(c.apps-c.hang)...)
					s.crowd.behave(0, c.hang, 0)
					s.settle()
				}
				slices.Sort(none)
				slices.Sort(hang)
				goal := (quantile(none, .99)*13/10 + 300*time.Millisecond).Round(time.Millisecond)
				t.Logf("process %s: none hangs: p50 %v, p99 %v; %d of %d hang: p50 %v, p99 %v of the healthy ones; goal p99 %v", when,
					quantile(none, .5), quantile(none, .99), c.hang, c.apps, quantile(hang, .5), quantile(hang, .99), goal)
				if quantile(hang, .99) > goal {
					t.Errorf("process %s: the healthy ones wait for those that hang", when)
				}
			}
			t.Logf("process: peak %d MB", p.peak())
		})
	}
}

// settle waits until nothing waits for any app.
func (s *scale) settle() {
	s.t.Helper()
	redistest.Eventually(s.t, 3*time.Minute, "nothing waits", func() bool {
		for i := range s.apps {
			if s.rdb.HLen(s.t.Context(), "lamplighter:{"+scaleApp(i)+"}:waiting").Val() > 0 {
				return false
			}
		}
		return true
	})
}

// TestScaleBlast: every tenant of hundreds of apps changes at once.
func TestScaleBlast(t *testing.T) {
	apps, tenants := numberOr(*scaleApps, 200), numberOr(*scaleSize, 10_000)
	s := newScale(t, 0, apps, tenants)
	seed := s.serve("api,worker")
	s.register("Cust0")
	s.tellsAfter("resume", 0, apps, time.Minute)
	s.settle()
	seed.kill()
	s.copyTenant(tenants)
	p := s.serve("api,worker")
	s.crowd.forget()
	before := p.peak()
	sent := s.change("suspend", tenants)
	s.told(apps*tenants, 20*time.Minute)
	took := time.Unix(0, s.crowd.last.Load()).Sub(sent)
	t.Logf("%d pairs told in %v (%.0f/s), %d told twice; peak of the process %d MB, %d before", apps*tenants, took.Round(100*time.Millisecond),
		float64(apps*tenants)/took.Seconds(), s.crowd.repeats.Load(), p.peak(), before)
}

// TestScaleDeletion: an app with a million approvals is deleted, while another one waits behind its closed gate.
func TestScaleDeletion(t *testing.T) {
	tenants := numberOr(*scaleSize, 1_000_000)
	s := newScale(t, *scaleRTT, 2, tenants)
	seed := s.serve("api,worker")
	s.register("Cust0")
	s.tellsAfter("resume", 0, 2, time.Minute)
	s.settle()
	seed.kill()
	// app 1 is approved by tenant 0 alone
	s.apps = 1
	s.rdb.SRem(t.Context(), "lamplighter:{Cust0}:approvals", scaleApp(1))
	s.copyTenant(tenants)
	s.rdb.SAdd(t.Context(), "lamplighter:{Cust0}:approvals", scaleApp(1))
	s.serve("api,worker")
	s.crowd.forget()
	s.crowd.behave(1, 2, http.StatusInternalServerError)
	s.change("suspend", 1)
	wait(t, 30*time.Second)
	start := time.Now()
	status, b := s.call(http.MethodDelete, "/v1/apps/"+scaleApp(0), "", nil, "If-Match", "*")
	t.Logf("DELETE: %d %s after %v", status, b, time.Since(start).Round(time.Millisecond))
	s.crowd.behave(1, 2, 0)
	well := time.Now()
	redistest.Eventually(t, 4*time.Minute, "the other app is told", func() bool { return s.crowd.apps[1].at.Load() != 0 })
	t.Logf("the other app was told %v after it was well; goal 45 s", time.Since(well).Round(100*time.Millisecond))
	left := func() []string { return s.keysLike("lamplighter:{" + scaleApp(0) + "}:*") }
	redistest.Eventually(t, 30*time.Minute, "what the app left is cleared away", func() bool {
		wait(t, time.Second)
		return s.rdb.Exists(t.Context(), "lamplighter:{"+scaleTenant(tenants-1)+"}:approvals", "lamplighter:{"+scaleTenant(tenants/2)+"}:approvals").Val() == 0 &&
			!slices.ContainsFunc(left(), func(k string) bool { return strings.Contains(k, ":former") || strings.HasSuffix(k, ":tenants") })
	})
	t.Logf("cleared away %v after the DELETE", time.Since(start).Round(time.Second))
	indexes := len(s.keysLike("lamplighter:{Cust*}:approvals"))
	t.Logf("keys left of the app: %v; tenants with approvals: %d, want 1", left(), indexes)
	if indexes != 1 {
		t.Errorf("%d tenants have approvals left", indexes)
	}
}

// TestScaleResync: all tenants of an app are told again, while the worker is killed three times.
func TestScaleResync(t *testing.T) {
	tenants := numberOr(*scaleSize, 1_000_000)
	s := newScale(t, *scaleRTT, 1, tenants)
	seed := s.serve("api,worker")
	s.register("Cust0")
	s.tellsAfter("resume", 0, 1, time.Minute)
	s.settle()
	seed.kill()
	s.copyTenant(tenants)
	s.serve("api")
	worker := s.serve("worker")
	s.crowd.forget()
	start := time.Now()
	status, b := s.call(http.MethodPost, "/v1/apps/"+scaleApp(0)+"/resync", "application/json", nil)
	t.Logf("POST resync: %d %s after %v", status, b, time.Since(start).Round(time.Millisecond))
	for kill := range int64(3) {
		redistest.Eventually(t, 30*time.Minute, "a quarter more is told", func() bool { return s.crowd.fresh.Load() >= int64(tenants)*(kill+1)/4 })
		worker.kill()
		t.Logf("killed at %d told, %d repeats", s.crowd.fresh.Load(), s.crowd.repeats.Load())
		worker.start()
	}
	s.told(tenants, 30*time.Minute)
	t.Logf("%d tenants told in %v; %d posts told nothing new, bound %d", tenants, time.Since(start).Round(time.Second), s.crowd.repeats.Load(), 3*(512+200))
	s.settle()
	t.Logf("after all had settled: %d told nothing new", s.crowd.repeats.Load())
}

// TestScaleFailingTogether: thousands of apps fail at once and are well again later.
func TestScaleFailingTogether(t *testing.T) {
	apps := numberOr(*scaleApps, 5000)
	for _, smtp := range []string{"works", "disabled", "down"} {
		t.Run(smtp, func(t *testing.T) {
			s := newScale(t, *scaleRTT, apps, 1, "LAMPLIGHTER_INCIDENT_OPEN_AFTER=10s", "LAMPLIGHTER_INCIDENT_RECOVER_AFTER=10s")
			switch smtp {
			case "works":
				s.mailsTo(newMailServer(t, s.stack).smtp)
			case "down":
				s.mailsTo(s.address())
			}
			p := s.serve("api,worker")
			s.register("Cust0")
			s.tellsAfter("resume", 0, apps, time.Minute)
			s.crowd.forget()
			s.crowd.behave(0, apps, http.StatusInternalServerError)
			s.change("suspend", 1)
			failed := time.Now()
			loops := newLoopWatch(p)
			opened := time.Duration(0)
			for time.Since(failed) < 90*time.Second {
				if n := p.metric("lamplighter_incidents_open"); opened == 0 && int(n) >= apps {
					opened = time.Since(failed)
				}
				loops.look()
				wait(t, time.Second)
			}
			t.Logf("%v of %d incidents are open; all were after %v, open_after is 10s", p.metric("lamplighter_incidents_open"), apps, opened.Round(time.Second))
			late := s.openedAfter()
			t.Logf("%d incidents; opened after their endpoint failed first: p50 %v, p99 %v, last %v; goal open_after and 15 s", len(late),
				quantile(late, .5), quantile(late, .99), quantile(late, 1))
			s.crowd.behave(0, apps, 0)
			well := time.Now()
			for s.crowd.fresh.Load() < int64(apps) && time.Since(well) < 3*time.Minute {
				loops.look()
				wait(t, time.Second)
			}
			waits := s.crowd.waits(0, apps, well)
			t.Logf("well: %d of %d told; p50 %v, last %v; goal 45 s", len(waits), apps, quantile(waits, .5), quantile(waits, 1))
			for range 30 {
				loops.look()
				wait(t, time.Second)
			}
			t.Logf("longest age of a loop's last complete: %v", loops)
			if len(waits) < apps {
				t.Errorf("%d apps were not told", apps-len(waits))
			}
		})
	}
}

// TestScaleFlood: an app that behaves differently for each tenant, on each connection or from time to time, while hundreds of
// its tenants change all the time, makes no other app wait.
func TestScaleFlood(t *testing.T) {
	const tenants = 500
	apps := numberOr(*scaleApps, 20)
	s := newScale(t, 0, apps, tenants)
	p := s.serve("api,worker")
	s.register("Cust0")
	var lines strings.Builder
	for i := range tenants {
		fmt.Fprintf(&lines, `{"tenant":%q}`+"\n", scaleTenant(i))
	}
	if err := s.puts(map[string]string{"/v1/apps/" + scaleApp(0) + "/approvals": lines.String()}); err != nil {
		t.Fatal(err)
	}
	round := 0
	tell := func(rounds int) (waits []time.Duration) {
		for range rounds {
			round++
			s.crowd.forget()
			sent := s.change(alternate(round), 1)
			redistest.Eventually(t, time.Minute, "the other apps are told", func() bool { return len(s.crowd.waits(1, apps, sent)) == apps-1 })
			waits = append(waits, s.crowd.waits(1, apps, sent)...)
		}
		slices.Sort(waits)
		return waits
	}
	tell(20)
	moods := []int32{0, http.StatusInternalServerError, neverAnswers}
	for _, by := range []struct {
		name string
		mood func(tenant int, from string) int32
	}{
		{"tenant", func(tenant int, _ string) int32 { return moods[tenant%3] }},
		{"connection", func(_ int, from string) int32 { return moods[int(from[len(from)-1])%3] }},
		{"minute", func(int, string) int32 { return moods[time.Now().Unix()/10%3] }},
	} {
		none := tell(300)
		s.crowd.moody.Store(&by.mood)
		stop := make(chan struct{})
		var flood sync.WaitGroup
		flood.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(500 * time.Millisecond):
					s.change(alternate(n), tenants)
				}
			}
		})
		waits := tell(300)
		close(stop)
		flood.Wait()
		s.crowd.moody.Store(nil)
		goal := quantile(none, .99)*6/5 + 5*time.Millisecond
		t.Logf("by %s: none odd: p50 %v, p99 %v; beside it: p50 %v, p99 %v; goal p99 %v; %d posts", by.name, quantile(none, .5), quantile(none, .99),
			quantile(waits, .5), quantile(waits, .99), goal, s.crowd.posts.Load())
	}
	t.Logf("process: peak %d MB", p.peak())
}

// TestScaleIdle: what a process costs that has nothing to do for many apps.
func TestScaleIdle(t *testing.T) {
	apps := numberOr(*scaleApps, 10_000)
	s := newScale(t, 0, apps, 1)
	p := s.serve("api,worker")
	s.register("Cust0")
	s.tellsAfter("resume", 0, apps, time.Minute)
	s.settle()
	p.kill()
	began := time.Now()
	p.start()
	ready := time.Since(began)
	wait(t, 20*time.Second)
	const watched = 60 * time.Second
	own, redis := cpu(p.cmd.Process.Pid), cpu(s.redis.PID())
	wait(t, watched)
	own, redis = cpu(p.cmd.Process.Pid)-own, cpu(s.redis.PID())-redis
	t.Logf("%d apps, nothing to do: ready after %v; %.1f %% of a core, Redis %.1f %%; %d MB, peak %d MB", apps, ready.Round(time.Millisecond),
		100*own.Seconds()/watched.Seconds(), 100*redis.Seconds()/watched.Seconds(), p.statusMB("VmRSS"), p.peak())
}
