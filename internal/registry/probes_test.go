package registry_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/registry/registrytest"
)

const probeApp partner.ClientID = "app1"

func eachProbes(t *testing.T, f func(t *testing.T, s *registry.ProbeStore, rdb redis.UniversalClient)) {
	t.Helper()
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		rdb.AddHook(&counter{t: t})
		f(t, registry.NewProbeStore(rdb, keys.New("")), rdb)
	})
}

func probeState(due time.Time) health.State {
	return health.State{
		Format: 1, Target: "t", Reason: health.WrongKey, Status: 200, Detail: "semi;colons; and words", CheckedAt: t0, FailingSince: t0, Failures: 3, Due: due,
	}
}

func claim(t *testing.T, s *registry.ProbeStore, force bool) (registry.ProbeClaim, bool) {
	t.Helper()
	c, ok, err := s.Claim(t.Context(), probeApp, partner.Mirroring, time.Minute, force)
	noErr(t, "claim", err)
	return c, ok
}

func settle(t *testing.T, s *registry.ProbeStore, c registry.ProbeClaim, next health.State) bool {
	t.Helper()
	return must[bool](t)(s.Settle(t.Context(), c, next))
}

func TestAProbeIsClaimedOnce(t *testing.T) {
	eachProbes(t, func(t *testing.T, s *registry.ProbeStore, _ redis.UniversalClient) {
		first, ok := claim(t, s, false)
		if !ok || !cmp.Equal(first.State, health.State{}) {
			t.Fatalf("the first claim: %v, %+v", ok, first.State)
		}
		if _, again := claim(t, s, false); again {
			t.Error("claimed twice at once")
		}
		if _, ok, err := s.Claim(t.Context(), probeApp, partner.ERPSync, time.Minute, false); err != nil || !ok {
			t.Errorf("another endpoint: %v, %v", ok, err)
		}
		later := time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
		for range 2 {
			if !settle(t, s, first, probeState(later)) {
				t.Error("the holder of the claim could not settle, or not again")
			}
		}
		early, ok := claim(t, s, false)
		if ok {
			t.Error("claimed although it is not due")
		}
		same(t, "state of an endpoint that is not due", early.State, probeState(later))
		forced, ok := claim(t, s, true)
		if !ok {
			t.Fatal("people could not test it")
		}
		same(t, "state", forced.State, probeState(later))
		now := time.Now().Truncate(time.Millisecond).UTC()
		if !settle(t, s, forced, probeState(now)) {
			t.Error("the test's finding was not kept")
		}
		if _, ok := claim(t, s, false); !ok {
			t.Error("not claimed although it is due and free")
		}
	})
}

func TestTheNewestClaimSettles(t *testing.T) {
	eachProbes(t, func(t *testing.T, s *registry.ProbeStore, rdb redis.UniversalClient) {
		old, _ := claim(t, s, false)
		test, ok := claim(t, s, true)
		if !ok || settle(t, s, old, probeState(t0)) {
			t.Error("an overtaken probe wrote its finding")
		}
		if !settle(t, s, test, probeState(t0)) {
			t.Error("the newer one could not")
		}
		noErr(t, "end the app's life", rdb.Unlink(t.Context(), keys.New("").AppLife(probeApp)...).Err())
		if settle(t, s, test, probeState(t0)) {
			t.Error("a probe of a removed app was kept")
		}
	})
}

// A worker that died gives its claim back by the time it stands for.
func TestAClaimEnds(t *testing.T) {
	eachProbes(t, func(t *testing.T, s *registry.ProbeStore, _ redis.UniversalClient) {
		_, ok, err := s.Claim(t.Context(), probeApp, partner.ERPSync, 0, false)
		if err != nil || !ok {
			t.Fatalf("claim: %v, %v", ok, err)
		}
		if _, ok, err = s.Claim(t.Context(), probeApp, partner.ERPSync, time.Minute, false); err != nil || !ok {
			t.Errorf("after its end: %v, %v", ok, err)
		}
	})
}

func TestProbesOfManyApps(t *testing.T) {
	eachProbes(t, func(t *testing.T, s *registry.ProbeStore, rdb redis.UniversalClient) {
		c, _ := claim(t, s, false)
		settle(t, s, c, probeState(t0))
		list := must[[]registry.ProbeStates](t)(s.Probes(t.Context(), []partner.ClientID{"app0", probeApp}))
		same(t, "states", list, []registry.ProbeStates{{}, {partner.Mirroring: probeState(t0)}})
		if none, err := s.Probes(t.Context(), nil); err != nil || len(none) != 0 {
			t.Errorf("of nobody: %v, %v", none, err)
		}
		key := keys.New("").App(probeApp, keys.AppProbes)
		for name, text := range map[string]string{
			"erp_sync": "2;0;0;x;{}", "odd": "1;0;0;x;", "quote_connector": "1;x;0;x;",
		} {
			noErr(t, "store", rdb.HSet(t.Context(), key, name, text).Err())
		}
		list, err := s.Probes(t.Context(), []partner.ClientID{probeApp})
		wantErr(t, "unreadable probes", err, registry.ErrUnreadable)
		same(t, "what can be read", list, []registry.ProbeStates{{partner.Mirroring: probeState(t0)}})
		_, _, err = s.Claim(t.Context(), probeApp, partner.ERPSync, time.Minute, true)
		wantErr(t, "claim of another format", err, registry.ErrUnreadable)
		noErr(t, "store", rdb.HSet(t.Context(), key, "erp_sync", `1;0;0;x;{"v":9}`).Err())
		_, _, err = s.Claim(t.Context(), probeApp, partner.ERPSync, time.Minute, true)
		wantErr(t, "claim of another state", err, registry.ErrUnreadable)
	})
}

func TestProbeSummary(t *testing.T) {
	eachProbes(t, func(t *testing.T, s *registry.ProbeStore, rdb redis.UniversalClient) {
		if doc, err := s.Summary(t.Context()); err != nil || doc != nil {
			t.Errorf("before the first: %s, %v", doc, err)
		}
		noErr(t, "save", s.SaveSummary(t.Context(), []byte("{}"), time.Minute))
		if doc, err := s.Summary(t.Context()); err != nil || string(doc) != "{}" {
			t.Errorf("saved: %s, %v", doc, err)
		}
		if ttl := rdb.PTTL(t.Context(), keys.New("").Config(keys.ConfigProbes)).Val(); ttl <= 0 || ttl > time.Minute {
			t.Errorf("it stays for %v", ttl)
		}
	})
}

func TestIncidentsOfManyApps(t *testing.T) {
	eachIncidents(t, func(t *testing.T, s *registry.IncidentStore, _ redis.UniversalClient) {
		step := must[incident.Decision](t)(registrytest.Decide(t.Context(), s, incidentApp, partner.StateChange, deciding(blocked, began, toKim)))
		list := must[[]map[partner.EndpointKind]incident.State](t)(s.IncidentsOf(t.Context(), []partner.ClientID{"app0", incidentApp}))
		same(t, "incidents", list, []map[partner.EndpointKind]incident.State{{}, {partner.StateChange: step.State}})
	})
}
