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
	"github.com/lamplighter/lamplighter/internal/partner"
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

// One app that cannot be read must not hide the news of all others, nor make them be read again and again.
func TestDirectoryKeepsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		now := time.Now()
		var reports []string
		d := registry.NewDirectory(s.Store)
		d.SetClock(func() time.Time { return now })
		d.OnUnreadable(func(_ context.Context, unreadable error) { reports = append(reports, unreadable.Error()) })
		refresh := func(trips int, want ...string) {
			t.Helper()
			if n := s.cmds.during(func() { noErr(t, "refresh", d.Refresh(ctx)) }); n != trips {
				t.Errorf("took %d round trips, want %d", n, trips)
			}
			same(t, "apps", shown(d), want)
		}
		unreadable := func(id partner.ClientID, want error) {
			t.Helper()
			_, _, err := d.Lookup(id)
			wantErr(t, string(id), err, want)
			if err != nil && !strings.Contains(err.Error(), string(id)) {
				t.Errorf("the error does not name the app: %v", err)
			}
		}
		one := put(t, s, testApp("app1"))
		other := put(t, s, testApp("app3"))
		noErr(t, "refresh", d.Refresh(ctx))
		unread := put(t, s, testApp("app1"))
		apps := s.keys.Config(keys.ConfigApps)
		good := s.rdb.HGet(ctx, apps, "app1").Val()
		spoiled := strings.Replace(good, `"v":1`, `"v":2`, 1)
		s.rdb.HSet(ctx, apps, "app1", spoiled)
		two := put(t, s, testApp("app2"))
		refresh(2, at(one), at(two), at(other))
		unreadable("app1", registry.ErrUnreadable)
		unreadable("app2", nil)
		same(t, "revision", d.Revision(), two.Revision)
		kept, _ := d.App("app2")
		refresh(1, at(one), at(two), at(other))
		two = put(t, s, testApp("app2"))
		refresh(2, at(one), at(two), at(other))
		unreadable("app1", registry.ErrUnreadable)
		kept2, _ := d.App("app2")
		kept3, _ := d.App("app3")
		if len(reports) != 1 || !strings.Contains(reports[0], "app1") || kept == kept2 {
			t.Errorf("reports %q", reports)
		}

		now = now.Add(time.Minute) // it is read again, and found as it was
		refresh(2, at(one), at(two), at(other))
		refresh(1, at(one), at(two), at(other))
		if len(reports) != 2 {
			t.Errorf("reports %q", reports)
		}
		s.rdb.HSet(ctx, apps, "app1", good) // mended by hand: nobody wrote it
		refresh(1, at(one), at(two), at(other))
		now = now.Add(time.Minute)
		refresh(2, at(unread), at(two), at(other))
		unreadable("app1", nil)
		again2, _ := d.App("app2")
		again3, _ := d.App("app3")
		if again2 != kept2 || again3 != kept3 || d.CountUnreadable() != 0 {
			t.Errorf("others were replaced, or %d cannot be read", d.CountUnreadable())
		}
		now = now.Add(time.Minute)
		refresh(1, at(unread), at(two), at(other))

		s.rdb.HSet(ctx, s.keys.Config(keys.ConfigSecrets), "app2", "not sealed")
		put(t, s, testApp("app2"))
		refresh(2, at(unread), at(two), at(other))
		unreadable("app2", registry.ErrUnreadable)
		s.rdb.HDel(ctx, s.keys.Config(keys.ConfigSecrets), "app2")
		two = put(t, s, testApp("app2")) // written anew: read at once
		refresh(2, at(unread), at(two), at(other))
		unreadable("app2", nil)

		s.rdb.HSet(ctx, apps, "app1", spoiled)
		put(t, s, testApp("app2"))
		first := registry.NewDirectory(s.Store) // one that never knew it
		noErr(t, "first refresh", first.Refresh(ctx))
		if _, ok, err := first.Lookup("app1"); ok || !errors.Is(err, registry.ErrUnreadable) || len(first.All()) != 2 || first.CountUnreadable() != 1 {
			t.Errorf("known %v, error %v, %d apps", ok, err, len(first.All()))
		}
		s.rdb.HSet(ctx, apps, "app1", good)
		_, err := s.DeleteApp(ctx, "app1", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		noErr(t, "refresh", first.Refresh(ctx))
		if _, ok, err := first.Lookup("app1"); ok || err != nil || first.CountUnreadable() != 0 {
			t.Errorf("deleted: known %v, error %v", ok, err)
		}
	})
}

// gate holds the first read of the settings' revision, and counts all of them.
type gate struct {
	key   string
	reads atomic.Int64
	held  chan struct{}
	open  chan struct{}
}

func newGate(s fixture) *gate {
	g := &gate{key: s.keys.Config(keys.ConfigRevision), held: make(chan struct{}), open: make(chan struct{})}
	s.rdb.AddHook(g)
	return g
}

func (*gate) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "get" && cmd.Args()[1] == g.key && g.reads.Add(1) == 1 {
			close(g.held)
			<-g.open
		}
		return next(ctx, cmd)
	}
}

// Whoever waits takes the next read that begins after he came: many who come while one is under way cost one more.
func TestRefreshesAreShared(t *testing.T) {
	t.Parallel()
	s := newFixture(t, redistest.Mini(t), registry.Options{})
	d := registry.NewDirectory(s.Store)
	g := newGate(s)
	var wg sync.WaitGroup
	refresh := func(ctx context.Context) {
		if err := d.Refresh(ctx); err != nil {
			t.Error(err)
		}
	}
	wg.Go(func() { refresh(t.Context()) })
	<-g.held
	rec := put(t, s, testApp("app1")) // after the first one read
	const waiters = 200
	for range waiters {
		wg.Go(func() {
			refresh(t.Context())
			if e, ok := d.App("app1"); !ok || e.Rec.Revision != rec.Revision {
				t.Error("a refresh shared a read that began before it")
			}
		})
	}
	leaver, leave := context.WithCancelCause(t.Context())
	cause := errors.New("gone")
	left := make(chan error, 1)
	go func() { left <- d.Refresh(leaver) }()
	redistest.Eventually(t, 10*time.Second, "all wait", func() bool { return d.Waiting() == waiters+1 })
	leave(cause)
	if err := <-left; !errors.Is(err, cause) {
		t.Errorf("who left heard %v", err)
	}
	hasty, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := d.Refresh(hasty); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("whose time ran out heard %v", err)
	}
	close(g.open)
	wg.Wait()
	if n := g.reads.Load(); n != 2 {
		t.Errorf("%d reads, want the one under way and one for all who came meanwhile", n)
	}
}

type key struct{}

// What one caller's context carries, such as leave to pass a shut gate, is not the others'.
func TestRefreshCarriesNothingOfItsFirstCaller(t *testing.T) {
	t.Parallel()
	s := newFixture(t, redistest.Mini(t), registry.Options{})
	d := registry.NewDirectory(s.Store)
	seen := &carried{}
	s.rdb.AddHook(seen)
	noErr(t, "refresh", d.Refresh(context.WithValue(t.Context(), key{}, "mine")))
	if !seen.looked || seen.value != nil {
		t.Errorf("looked %v, found %v", seen.looked, seen.value)
	}
}

// carried looks at the context of commands.
type carried struct {
	looked bool
	value  any
}

func (*carried) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*carried) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (c *carried) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.looked, c.value = true, ctx.Value(key{})
		return next(ctx, cmd)
	}
}

// A read goes on although the one it was begun for has gone.
func TestRefreshOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	s := newFixture(t, redistest.Mini(t), registry.Options{})
	d := registry.NewDirectory(s.Store)
	put(t, s, testApp("app1"))
	g := newGate(s)
	first, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- d.Refresh(first) }()
	<-g.held
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left heard %v", err)
	}
	close(g.open)
	redistest.Eventually(t, 10*time.Second, "the read ends", func() bool { return len(d.All()) == 1 })
	noErr(t, "refresh", d.Refresh(t.Context()))
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
