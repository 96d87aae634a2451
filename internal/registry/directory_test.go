package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

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

// at is how shown tells of an app.
func at(rec registry.AppRecord) string {
	return fmt.Sprintf("%s@%d", rec.App.ClientID, rec.Revision)
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
		two, _, err := s.PutApp(ctx, testApp("app2"), registry.AnyRevision, &w, kim, "app.put")
		noErr(t, "put", err)
		one := put(t, s, testApp("app1"))
		refresh(at(one), at(two))
		e, ok := d.App("app2")
		if !ok {
			t.Fatal("app2 is missing")
		}
		same(t, "secrets", e.Secrets, w)
		same(t, "app", e.Rec.App, testApp("app2"))
		before := e

		if trips := s.cmds.during(func() { refresh(at(one), at(two)) }); trips != 1 {
			t.Errorf("a refresh without news took %d round trips, want 1", trips)
		}
		one = put(t, s, testApp("app1"))
		if trips := s.cmds.during(func() { refresh(at(one), at(two)) }); trips != 2 {
			t.Errorf("a refresh with news took %d round trips, want 2", trips)
		}
		if e, _ := d.App("app2"); e != before {
			t.Error("the entry of an app that did not change was replaced")
		}
		deleted, err := s.DeleteApp(ctx, "app2", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		refresh(at(one))
		if _, ok := d.App("app2"); ok {
			t.Error("a deleted app is shown")
		}
		same(t, "revision", d.Revision(), deleted)
	})
}

// Redis may lose its last writes: the revision goes back and apps vanish without a removal.
func TestDirectoryAfterLostWrites(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		d := registry.NewDirectory(s.Store)
		one, two := put(t, s, testApp("app1")), put(t, s, testApp("app2"))
		put(t, s, testApp("app3"))
		noErr(t, "refresh", d.Refresh(ctx))
		s.rdb.HDel(ctx, s.keys.Config(keys.ConfigApps), "app3")
		s.rdb.ZRem(ctx, s.keys.Config(keys.ConfigChanged), "app3")
		s.rdb.Set(ctx, s.keys.Config(keys.ConfigRevision), two.Revision, 0)
		noErr(t, "refresh", d.Refresh(ctx))
		same(t, "apps", shown(d), []string{at(one), at(two)})
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
	two := put(t, s, testApp("app2"))
	noErr(t, "refresh", d.Refresh(ctx))
	_, err := s.DeleteApp(ctx, "app1", registry.AnyRevision, kim)
	noErr(t, "delete", err)
	s.rdb.Del(ctx, s.keys.Config(keys.ConfigRemoved))
	pipe := s.rdb.Pipeline()
	for i := range 10000 {
		pipe.Do(ctx, "ZADD", s.keys.Config(keys.ConfigRemoved), two.Revision+int64(i)+10, fmt.Sprintf("gone%d", i))
	}
	pipe.Set(ctx, s.keys.Config(keys.ConfigRevision), two.Revision+20000, 0)
	_, err = pipe.Exec(ctx)
	noErr(t, "forget the removal", err)
	noErr(t, "refresh", d.Refresh(ctx))
	same(t, "apps", shown(d), []string{at(two)})
}

// One app that cannot be read must not hide the news of all others, nor stay unnoticed.
func TestDirectoryKeepsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		d := registry.NewDirectory(s.Store)
		one := put(t, s, testApp("app1"))
		put(t, s, testApp("app2"))
		noErr(t, "refresh", d.Refresh(ctx))
		unread := put(t, s, testApp("app1"))
		apps := s.keys.Config(keys.ConfigApps)
		good := s.rdb.HGet(ctx, apps, "app1").Val()
		s.rdb.HSet(ctx, apps, "app1", strings.Replace(good, `"v":1`, `"v":2`, 1))
		two := put(t, s, testApp("app2"))
		for range 2 {
			err := d.Refresh(ctx)
			wantErr(t, "refresh", err, registry.ErrUnreadable)
			if err != nil && !strings.Contains(err.Error(), "app1") {
				t.Errorf("the error does not name the app: %v", err)
			}
			same(t, "apps", shown(d), []string{at(one), at(two)})
		}
		s.rdb.HSet(ctx, apps, "app1", good)
		noErr(t, "refresh", d.Refresh(ctx))
		same(t, "apps", shown(d), []string{at(unread), at(two)})

		s.rdb.HSet(ctx, s.keys.Config(keys.ConfigSecrets), "app2", "not sealed")
		put(t, s, testApp("app2"))
		wantErr(t, "unreadable secrets", d.Refresh(ctx), registry.ErrUnreadable)
		same(t, "apps", shown(d), []string{at(unread), at(two)})
	})
}

func TestDirectoryKeepsItsViewWithoutRedis(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	s := newFixture(t, rdb, registry.Options{})
	d := registry.NewDirectory(s.Store)
	one := put(t, s, testApp("app1"))
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
	same(t, "apps", shown(d), []string{at(one)})
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

// A Redis that was lost is replaced by an old copy, and somebody writes to it before a reader looks: what
// the copy does not know must not be believed any longer, nor may a writer build on it.
func TestDirectoryAfterAnOldCopyWasRestored(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var server atomic.Pointer[redistest.Process]
	server.Store(redistest.Start(t))
	rdb := redis.NewClient(&redis.Options{Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Load().Addr)
	}})
	t.Cleanup(func() { _ = rdb.Close() })
	s := newFixture(t, rdb, registry.Options{})
	d := registry.NewDirectory(s.Store)
	kept := put(t, s, testApp("app1"))
	put(t, s, testApp("app2"))
	copied := filepath.Join(t.TempDir(), "copy.rdb")
	noErr(t, "copy", server.Load().Snapshot(ctx, copied))
	renamed := testApp("app1")
	renamed.Name = "Renamed after the copy"
	lost := put(t, s, renamed)
	put(t, s, testApp("app3"))
	noErr(t, "refresh", d.Refresh(ctx))

	server.Load().Kill()
	server.Store(redistest.StartOn(t, copied))
	redistest.Eventually(t, 20*time.Second, "the client finds the other server", func() bool { return rdb.Ping(ctx).Err() == nil })
	two := put(t, s, testApp("app2"))
	four := put(t, s, testApp("app4"))
	noErr(t, "refresh", d.Refresh(ctx))
	same(t, "apps", shown(d), []string{at(kept), at(two), at(four)})
	if e, ok := d.App("app1"); !ok || e.Rec.App.Name != kept.App.Name {
		t.Errorf("app1 is still what the copy does not know: %+v", e)
	}
	put(t, s, testApp("app1"))
	_, _, err := s.PutApp(ctx, renamed, lost.Revision, nil, kim, "app.put")
	wantErr(t, "a write built on what was lost", err, registry.ErrConflict)
}
