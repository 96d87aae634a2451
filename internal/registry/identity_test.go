package registry_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// onlooker is a process that watches the store.
type onlooker struct {
	t *testing.T
	fixture
	memory registry.StoreMemory
}

func begin(t *testing.T, s fixture, name string) *onlooker {
	t.Helper()
	o := &onlooker{t: t, fixture: s, memory: registry.StoreMemory{Process: name}}
	o.sees(registry.StoreTaken, false)
	return o
}

// look looks once, and remembers what it should.
func (o *onlooker) look() registry.StoreCheck {
	o.t.Helper()
	l, err := o.CheckStore(o.t.Context(), o.memory)
	noErr(o.t, "look", err)
	if l.Match == registry.StoreSame || l.Match == registry.StoreTaken {
		o.memory = l.Now
	}
	return l
}

func (o *onlooker) sees(match registry.StoreMatch, lower bool) {
	o.t.Helper()
	if l := o.look(); l.Match != match || l.Lower != lower {
		o.t.Errorf("%s sees %+v, want match %d, lower %v", o.memory.Process, l, match, lower)
	}
}

func (o *onlooker) accept() string {
	o.t.Helper()
	identity := registry.NewStoreIdentity()
	_, err := o.AcceptStore(o.t.Context(), identity, o.memory, kim)
	noErr(o.t, "accept", err)
	return identity
}

func (o *onlooker) fastRound() string {
	return o.rdb.Get(o.t.Context(), o.keys.Config(keys.ConfigFastRound)).Val()
}

func TestStoreStaysTheSame(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		a, b := begin(t, s, "a"), begin(t, s, "b")
		if a.memory.Identity == "" || a.memory.Identity != b.memory.Identity {
			t.Fatalf("identities %q and %q", a.memory.Identity, b.memory.Identity)
		}
		put(t, s, testApp("app1"))
		for range 3 {
			a.sees(registry.StoreSame, false)
			b.sees(registry.StoreSame, false)
		}
		if a.memory.Count != 4 || a.memory.Revision == 0 {
			t.Errorf("a remembers %+v", a.memory)
		}
		if ttl := s.rdb.TTL(t.Context(), s.keys.Config(keys.ConfigCounts)+":a").Val(); ttl <= 24*time.Hour {
			t.Errorf("the count lapses in %v", ttl)
		}
		if got := a.fastRound(); got != "" {
			t.Errorf("a fast round was asked for at %s", got)
		}
		// an answer that was lost makes the process look again with what it remembered before
		before := a.memory
		a.look()
		a.memory = before
		a.sees(registry.StoreSame, false)
	})
}

func TestStoreGoneOrOther(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		a, b := begin(t, s, "a"), begin(t, s, "b")
		first := a.memory.Identity
		old := a.memory
		noErr(t, "flush", s.rdb.FlushDB(ctx).Err())
		a.sees(registry.StoreGone, false)
		a.sees(registry.StoreGone, false)
		if n := s.rdb.Exists(ctx, s.keys.Config(keys.ConfigIdentity), s.keys.Config(keys.ConfigCounts)+":a").Val(); n != 0 {
			t.Error("a look at an empty store made it look like one in order")
		}
		// one that begins now cannot know
		late := begin(t, s, "late")
		if late.memory.Identity == first {
			t.Fatal("the empty store got the old identity")
		}
		a.sees(registry.StoreOther, false)

		// accepted through the late one, which itself refuses nothing and never knew of the first identity
		late.sees(registry.StoreSame, false)
		accepted := late.accept()
		a.sees(registry.StoreTaken, false)
		late.sees(registry.StoreTaken, false)
		b.sees(registry.StoreTaken, false) // it did not look while others refused
		for _, o := range []*onlooker{a, b, late} {
			if o.memory.Identity != accepted {
				t.Errorf("%s has %q, want %q", o.memory.Process, o.memory.Identity, accepted)
			}
			o.sees(registry.StoreSame, false)
		}
		if a.fastRound() == "" {
			t.Error("no fast round was asked for")
		}
		// one that slept through two acceptances goes on too
		again := a.accept()
		sleeper := &onlooker{t: t, fixture: s, memory: old}
		sleeper.sees(registry.StoreTaken, false)
		if sleeper.memory.Identity != again {
			t.Errorf("the sleeper has %q", sleeper.memory.Identity)
		}
		// but not one of another store
		stranger := &onlooker{t: t, fixture: s, memory: registry.StoreMemory{Process: "s", Identity: registry.NewStoreIdentity(), Count: 1}}
		stranger.sees(registry.StoreOther, false)
		entries, _, err := s.AuditEntries(ctx, registry.AuditQuery{Actions: []string{"store."}})
		noErr(t, "audit", err)
		if len(entries) != 2 || entries[0].Action != "store.accept" || entries[0].After != again || entries[0].Before != accepted || entries[0].Actor != kim.Name {
			t.Errorf("audited %+v", entries)
		}
	})
}

func TestAcceptStoreTwice(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		a := begin(t, s, "a")
		first, next := a.memory.Identity, registry.NewStoreIdentity()
		for range 2 { // the answer to the first was lost
			was, err := s.AcceptStore(ctx, next, a.memory, kim)
			noErr(t, "accept", err)
			if was != first {
				t.Errorf("the identity was %q, want %q", was, first)
			}
		}
		entries, _, err := s.AuditEntries(ctx, registry.AuditQuery{})
		noErr(t, "audit", err)
		if len(entries) != 1 {
			t.Errorf("audited %d times", len(entries))
		}
		for range 40 {
			a.look()
			a.accept()
		}
		if n := len(strings.Fields(s.rdb.Get(ctx, s.keys.Config(keys.ConfigIdentity)).Val())); n != 17 {
			t.Errorf("the identity holds %d words", n)
		}
	})
}

func TestStoreWentBack(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, o *onlooker){
		"Count": func(t *testing.T, o *onlooker) {
			t.Helper()
			noErr(t, "lose", o.rdb.Decr(t.Context(), o.keys.Config(keys.ConfigCounts)+":a").Err())
		},
		"CountOfAnOldCopy": func(t *testing.T, o *onlooker) {
			t.Helper()
			noErr(t, "lose", o.rdb.Del(t.Context(), o.keys.Config(keys.ConfigCounts)+":a").Err())
		},
		"Revision": func(t *testing.T, o *onlooker) {
			t.Helper()
			noErr(t, "lose", o.rdb.Decr(t.Context(), o.keys.Config(keys.ConfigRevision)).Err())
		},
		"RevisionOfAnotherType": func(t *testing.T, o *onlooker) {
			t.Helper()
			key := o.keys.Config(keys.ConfigRevision)
			noErr(t, "lose", o.rdb.Del(t.Context(), key).Err())
			noErr(t, "lose", o.rdb.HSet(t.Context(), key, "f", "v").Err())
		},
		"CountThatIsNoNumber": func(t *testing.T, o *onlooker) {
			t.Helper()
			noErr(t, "lose", o.rdb.Set(t.Context(), o.keys.Config(keys.ConfigCounts)+":a", "nan", 0).Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, s fixture) {
				put(t, s, testApp("app1"))
				a, b := begin(t, s, "a"), begin(t, s, "b")
				for range 3 {
					a.sees(registry.StoreSame, false)
				}
				b.look()
				lose(t, a)
				before := a.memory
				b.look() // others go on, and hide nothing
				b.look()
				a.sees(registry.StoreSame, true)
				asked := a.fastRound()
				if asked == "" {
					t.Error("no fast round was asked for")
				}
				a.memory = before // the answer was lost
				a.sees(registry.StoreSame, true)
				a.sees(registry.StoreSame, false)
				if now := a.fastRound(); now < asked {
					t.Errorf("a fast round was asked for at %s and then at %s", asked, now)
				}
			})
		})
	}
}

// TestIdentityOfAnotherForm: what nobody here wrote is another store's, and can be accepted.
func TestIdentityOfAnotherForm(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		key := s.keys.Config(keys.ConfigIdentity)
		a := begin(t, s, "a")
		for _, value := range []string{"", " ", "{}", "aaaa", "\x00", strings.Repeat("A ", 100_000), "HASH"} {
			noErr(t, "drop", s.rdb.Del(ctx, key).Err())
			if value == "HASH" {
				noErr(t, "plant", s.rdb.HSet(ctx, key, "f", "v").Err())
			} else {
				noErr(t, "plant", s.rdb.Set(ctx, key, value, time.Hour).Err())
			}
			a.sees(registry.StoreOther, false)
			begin(t, s, "late")
			a.accept()
			a.sees(registry.StoreTaken, false)
			a.sees(registry.StoreSame, false)
			if ttl := s.rdb.TTL(ctx, key).Val(); ttl > 0 {
				t.Errorf("%.10q: the identity lapses in %v", value, ttl)
			}
		}
		// nor do refusals without end, or of another type, keep it from being accepted
		refused := s.keys.Config(keys.ConfigRefused)
		for i := range 40 {
			o := &onlooker{t: t, fixture: s, memory: registry.StoreMemory{Process: strconv.Itoa(i), Identity: registry.NewStoreIdentity()}}
			o.sees(registry.StoreOther, false)
		}
		if n, ttl := s.rdb.SCard(ctx, refused).Val(), s.rdb.TTL(ctx, refused).Val(); n != 16 || ttl <= 0 {
			t.Errorf("%d refusals, for %v", n, ttl)
		}
		noErr(t, "drop", s.rdb.Del(ctx, refused).Err())
		noErr(t, "plant", s.rdb.Set(ctx, refused, "x", 0).Err())
		stranger := &onlooker{t: t, fixture: s, memory: registry.StoreMemory{Process: "s", Identity: registry.NewStoreIdentity()}}
		stranger.sees(registry.StoreOther, false)
		a.accept()
		a.sees(registry.StoreTaken, false)
	})
}

// TestReplicaNeverAnswers: one that lags, or that is empty still, is not believed.
func TestReplicaNeverAnswers(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	s := newFixture(t, primary.Client(t), registry.Options{})
	a := begin(t, s, "a")
	replica := redistest.StartReplica(t, primary)
	asked := newFixture(t, replica.Client(t), registry.Options{})
	redistest.Eventually(t, 10*time.Second, "the replica follows", func() bool {
		return asked.rdb.Exists(t.Context(), s.keys.Config(keys.ConfigIdentity)).Val() == 1
	})
	for range 2 {
		if l, err := asked.CheckStore(t.Context(), a.memory); err == nil || !strings.Contains(err.Error(), "READONLY") {
			t.Errorf("a replica answered %+v, %v", l, err)
		}
		// an empty one, as while it waits for its first copy
		noErr(t, "empty the replica", asked.rdb.ConfigSet(t.Context(), "replica-read-only", "no").Err())
		noErr(t, "empty the replica", asked.rdb.FlushAll(t.Context()).Err())
		noErr(t, "empty the replica", asked.rdb.ConfigSet(t.Context(), "replica-read-only", "yes").Err())
	}
}

// TestWatchOfAFullRedis: a Redis at maxmemory is looked at, and can be accepted.
func TestWatchOfAFullRedis(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	s := newFixture(t, p.Client(t), registry.Options{})
	a := begin(t, s, "a")
	noErr(t, "fill", s.rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	if err := s.rdb.Set(t.Context(), "x", "y", 0).Err(); err == nil {
		t.Fatal("Redis is not full")
	}
	a.sees(registry.StoreSame, false)
	noErr(t, "lose", s.rdb.Del(t.Context(), s.keys.Config(keys.ConfigIdentity)).Err())
	a.sees(registry.StoreGone, false)
	a.accept()
	a.sees(registry.StoreTaken, false)
}

// TestStoresFoundedAtOnce: of many that begin at once all have one identity.
func TestStoresFoundedAtOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		found := make(chan string, 20)
		for i := range cap(found) {
			go func() {
				l, err := s.CheckStore(t.Context(), registry.StoreMemory{Process: strconv.Itoa(i)})
				if err != nil {
					t.Error(err)
				}
				found <- l.Now.Identity
			}()
		}
		var all []string
		for range cap(found) {
			all = append(all, <-found)
		}
		slices.Sort(all)
		if all = slices.Compact(all); len(all) != 1 || all[0] == "" {
			t.Errorf("identities %q", all)
		}
	})
}

// TestWatchWhileSlotsMove: answers of a Cluster whose slots move never say
// that the store is gone or went back.
func TestWatchWhileSlotsMove(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, false)
	rdb, err := redisconn.New(redisconn.Options{URL: secret.New(c.URL())})
	noErr(t, "connect", err)
	t.Cleanup(func() { _ = rdb.Close() })
	s := registry.New(rdb, registry.Options{Keys: keys.New("test"), Keyring: testKeyring(t)})
	ctx := t.Context()
	first, err := s.CheckStore(ctx, registry.StoreMemory{Process: "p"})
	noErr(t, "begin", err)
	stop, ended := make(chan struct{}), make(chan struct{})
	looks, failed := 0, 0
	go func() {
		defer close(ended)
		for memory := first.Now; ; {
			select {
			case <-stop:
				return
			default:
			}
			l, err := s.CheckStore(ctx, memory)
			switch {
			case err != nil:
				failed++
			case l.Match != registry.StoreSame || l.Lower:
				t.Errorf("while slots move a look finds %+v", l)
				return
			default:
				memory = l.Now
				looks++
			}
		}
	}()
	slot, err := c.Slot(ctx, keys.New("test").Config(keys.ConfigIdentity))
	noErr(t, "slot", err)
	for range 4 {
		from := c.Holder(ctx, slot)
		to := c.Primaries[0]
		if to == from {
			to = c.Primaries[1]
		}
		noErr(t, "move", c.MoveSlot(ctx, slot, from, to))
	}
	close(stop)
	<-ended
	if looks == 0 {
		t.Error("no look succeeded")
	}
	t.Logf("%d looks, %d of them failed", looks+failed, failed)
}
