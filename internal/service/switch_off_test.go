package service_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// behindLook is a hook that does something behind each of the loops' looks at an app's incidents that
// finds a failing endpoint, before a loop acts on it. Only the loop incidents acts, and it looks again before.
type behindLook struct {
	key           string
	do            func(ctx context.Context) error
	found, second atomic.Int64
}

func (b *behindLook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *behindLook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "hgetall" && slices.Contains(cmd.Args(), any(b.key)) {
			b.second.Add(1)
		}
		return err
	}
}

func (b *behindLook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, c := range cmds {
			if c.Name() != "evalsha" || c.Err() != nil || !slices.Contains(c.Args(), any(b.key)) {
				continue
			}
			if strings.Contains(c.String(), "failing_since") {
				b.found.Add(1)
				return b.do(ctx)
			}
		}
		return err
	}
}

// TestTheSecondLookBeforeASwitchOff: a loop reads the incidents of many apps at once, and an endpoint
// that has failed for too long may have answered before its turn comes: then it stays on.
func TestTheSecondLookBeforeASwitchOff(t *testing.T) {
	t.Parallel()
	incidents := keys.New("").App("app1", keys.AppIncidents)
	for name, tc := range map[string]struct {
		answered bool
		on       bool
	}{
		"AnsweredSince": {answered: true, on: true},
		"StillFails":    {answered: false, on: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := redistest.Mini(t)
			look := &behindLook{key: incidents, do: func(ctx context.Context) error {
				if !tc.answered {
					return nil
				}
				return rdb.HDel(ctx, incidents, partner.StateChange.String()).Err()
			}}
			r, plant := failingTooLong(t, rdb, look)
			var found int64
			var since time.Time
			redistest.Eventually(t, 20*time.Second, "the loop looked at the failing endpoint, and again", func() bool {
				if !tc.on {
					return !r.on()
				}
				if n := look.found.Load(); n != found {
					found, since = n, time.Now()
				}
				if found == 0 || time.Since(since) < 500*time.Millisecond { // whoever found it has acted by then
					return false
				}
				if look.second.Load() > 0 {
					return true
				}
				plant() // it was the loop that counts
				since = time.Now()
				return false
			})
			if on := r.on(); on != tc.on {
				t.Errorf("the endpoint is on: %t, want %t", on, tc.on)
			}
		})
	}
}

// failingTooLong runs a service that finds an app whose endpoint is to be switched off, and returns what plants its incident once more.
func failingTooLong(t *testing.T, rdb redis.UniversalClient, hook redis.Hook) (r *running, plant func()) {
	t.Helper()
	cfg := settings(t)
	cfg.Delivery.Sweep = 50 * time.Millisecond
	k, err := secret.ParseKey(cfg.Encryption.Key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	a := partner.New("app1")
	a.Name, a.EverHadURL = "App", true
	a.Endpoints[partner.StateChange].URL, a.Endpoints[partner.StateChange].Enabled = "http://127.0.0.1:1/", true
	reg := registry.New(rdb, registry.Options{Keyring: secret.NewKeyring(k)})
	if _, _, err := reg.PutApp(t.Context(), a, registry.AnyRevision, nil, registry.Actor{Name: "test"}, "app.put"); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	began := now.Add(-cfg.Delivery.SwitchOffAfter - time.Hour)
	state := incident.State{ // open, and all reminders sent, so that nothing but the switch-off is due
		FailingSince: began, SeenSince: began, SeenAt: now, Failures: 9, Last: &incident.Failure{Reason: delivery.ReasonRefused, At: now},
		ID: incident.NewID("app1", partner.StateChange, began), Since: began, OpenedAt: began, N: 3, Reminders: 2,
	}
	plant = func() {
		if err := rdb.HSet(t.Context(), keys.New("").App("app1", keys.AppIncidents), partner.StateChange.String(), state.Encode()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	plant()
	rdb.AddHook(hook)
	return &running{T: t, rdb: rdb, base: "http://" + serve(t, rdb, cfg).Addr("api")}, plant
}

// on asks whether the app's endpoint is on.
func (r *running) on() bool {
	r.Helper()
	enabled, ok := r.call(http.MethodGet, "/v1/apps/app1/endpoints/state_change", "")["enabled"].(bool)
	if !ok {
		r.Fatal("the endpoint does not say whether it is on")
	}
	return enabled
}
