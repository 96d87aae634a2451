package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func shown(d *registry.Directory) []string {
	var out []string
	for _, e := range d.All() {
		out = append(out, fmt.Sprintf("%s@%d", e.Rec.App.ClientID, e.Rec.Revision))
	}
	return out
}

func TestDirectoryFollowsTheStore(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		d := registry.NewDirectory(s.Store)
		refresh := func(want ...string) {
			t.Helper()
			noErr(t, "refresh", d.Refresh(ctx))
			same(t, "apps", shown(d), want)
		}
		if _, ok := d.App("app1"); ok || len(d.All()) != 0 {
			t.Error("a new directory is not empty")
		}
		refresh()
		w := registry.WebhookSecrets{Current: secret.New("whsec_one")}
		_, _, err := s.PutApp(ctx, testApp("app2"), registry.AnyRevision, &w, kim, "app.put")
		noErr(t, "put", err)
		put(t, s, testApp("app1"))
		refresh("app1@2", "app2@1")
		e, ok := d.App("app2")
		if !ok {
			t.Fatal("app2 is missing")
		}
		same(t, "secrets", e.Secrets, w)
		same(t, "app", e.Rec.App, testApp("app2"))
		before := e

		if trips := s.cmds.during(func() { refresh("app1@2", "app2@1") }); trips != 1 {
			t.Errorf("a refresh without news took %d round trips, want 1", trips)
		}
		put(t, s, testApp("app1"))
		if trips := s.cmds.during(func() { refresh("app1@3", "app2@1") }); trips != 2 {
			t.Errorf("a refresh with news took %d round trips, want 2", trips)
		}
		if e, _ := d.App("app2"); e != before {
			t.Error("the entry of an app that did not change was replaced")
		}
		_, err = s.DeleteApp(ctx, "app2", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		refresh("app1@3")
		if _, ok := d.App("app2"); ok {
			t.Error("a deleted app is shown")
		}
		same(t, "revision", d.Revision(), int64(4))
	})
}

// Redis may lose its last writes: the revision goes back and apps vanish without a removal.
func TestDirectoryAfterLostWrites(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		d := registry.NewDirectory(s.Store)
		put(t, s, testApp("app1"))
		put(t, s, testApp("app2"))
		put(t, s, testApp("app3"))
		noErr(t, "refresh", d.Refresh(ctx))
		s.rdb.HDel(ctx, s.keys.Config(keys.ConfigApps), "app3")
		s.rdb.ZRem(ctx, s.keys.Config(keys.ConfigChanged), "app3")
		s.rdb.Set(ctx, s.keys.Config(keys.ConfigRevision), 2, 0)
		noErr(t, "refresh", d.Refresh(ctx))
		same(t, "apps", shown(d), []string{"app1@1", "app2@2"})
		s.rdb.FlushDB(ctx)
		noErr(t, "refresh", d.Refresh(ctx))
		same(t, "apps of an emptied Redis", shown(d), []string(nil))
	})
}

func TestDirectoryOfALongSleeper(t *testing.T) {
	t.Parallel()
	s := newFixture(t, redistest.Mini(t), registry.Options{})
	ctx := t.Context()
	d := registry.NewDirectory(s.Store)
	put(t, s, testApp("app1"))
	put(t, s, testApp("app2"))
	noErr(t, "refresh", d.Refresh(ctx))
	_, err := s.DeleteApp(ctx, "app1", registry.AnyRevision, kim)
	noErr(t, "delete", err)
	s.rdb.Del(ctx, s.keys.Config(keys.ConfigRemoved))
	pipe := s.rdb.Pipeline()
	for i := range 10000 {
		pipe.Do(ctx, "ZADD", s.keys.Config(keys.ConfigRemoved), i+10, fmt.Sprintf("gone%d", i))
	}
	pipe.Set(ctx, s.keys.Config(keys.ConfigRevision), 20000, 0)
	_, err = pipe.Exec(ctx)
	noErr(t, "forget the removal", err)
	noErr(t, "refresh", d.Refresh(ctx))
	same(t, "apps", shown(d), []string{"app2@2"})
}

// One app that cannot be read must not hide the news of all others, nor stay unnoticed.
func TestDirectoryKeepsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		d := registry.NewDirectory(s.Store)
		put(t, s, testApp("app1"))
		put(t, s, testApp("app2"))
		noErr(t, "refresh", d.Refresh(ctx))
		put(t, s, testApp("app1"))
		apps := s.keys.Config(keys.ConfigApps)
		good := s.rdb.HGet(ctx, apps, "app1").Val()
		s.rdb.HSet(ctx, apps, "app1", strings.Replace(good, `"v":1`, `"v":2`, 1))
		put(t, s, testApp("app2"))
		for range 2 {
			err := d.Refresh(ctx)
			wantErr(t, "refresh", err, registry.ErrUnreadable)
			if err != nil && !strings.Contains(err.Error(), "app1") {
				t.Errorf("the error does not name the app: %v", err)
			}
			same(t, "apps", shown(d), []string{"app1@1", "app2@4"})
		}
		s.rdb.HSet(ctx, apps, "app1", good)
		noErr(t, "refresh", d.Refresh(ctx))
		same(t, "apps", shown(d), []string{"app1@3", "app2@4"})

		s.rdb.HSet(ctx, s.keys.Config(keys.ConfigSecrets), "app2", "not sealed")
		put(t, s, testApp("app2"))
		wantErr(t, "unreadable secrets", d.Refresh(ctx), registry.ErrUnreadable)
		same(t, "apps", shown(d), []string{"app1@3", "app2@4"})
	})
}

func TestDirectoryKeepsItsViewWithoutRedis(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	s := newFixture(t, rdb, registry.Options{})
	d := registry.NewDirectory(s.Store)
	put(t, s, testApp("app1"))
	noErr(t, "refresh", d.Refresh(t.Context()))
	cause := errors.New("stopping")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := d.Refresh(ctx); err == nil {
		t.Error("a refresh with a cancelled context succeeded")
	}
	_ = rdb.Close()
	if err := d.Refresh(t.Context()); err == nil {
		t.Error("a refresh without Redis succeeded")
	}
	same(t, "apps", shown(d), []string{"app1@1"})
}

func TestDirectoryIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		d := registry.NewDirectory(s.Store)
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 20 {
					id := fmt.Sprintf("app%d-%d", w, i)
					rec := put(t, s, testApp(id))
					if err := d.Refresh(t.Context()); err != nil {
						t.Error(err)
					}
					e, ok := d.App(rec.App.ClientID)
					if !ok || e.Rec.Revision != rec.Revision {
						t.Errorf("a refresh after the write of %s does not show it", id)
					}
				}
			})
		}
		wg.Wait()
		same(t, "apps", len(d.All()), 80)
	})
}
