package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// A Redis that restarted, or a new master, knows no script; pipelined calls must repair that.
func TestUnknownScriptsAreLoaded(t *testing.T) {
	t.Parallel()
	forget := func(b *box) { b.check(b.rdb.ScriptFlush(b.Context()).Err()) }
	b := miniBox(t, mailbox.Settings{})
	two := []partner.ClientID{testApp, "app2"}
	b.approved(1, "t1")
	forget(b)
	ds, errs := b.s.DepositMany(t.Context(), "n", []mailbox.Batch{{Life: mailbox.Life{App: "app2"}}, {Life: testLife, Records: toPointers(story("t1", "suspend5"))}})
	if err := errors.Join(errs...); err != nil || ds[1].Written != 1 {
		t.Errorf("DepositMany = %+v, %v", ds, err)
	}
	forget(b)
	if _, errs := b.s.RepairWakeUps(t.Context(), "n", []mailbox.Switch{{Life: testLife, On: true}, {Life: mailbox.Life{App: "app2"}}}); errors.Join(errs...) != nil {
		t.Errorf("Sweep errors = %v", errs)
	}
	forget(b)
	if vs, errs := b.s.Views(t.Context(), two); errors.Join(errs...) != nil || vs[0].Waiting != 1 {
		t.Errorf("Views = %+v, %v", vs, errs)
	}
	forget(b)
	if sts, err := b.s.ReadPairsOfTenant(t.Context(), "t1", two); err != nil || !sts[0].HasPending() || sts[1].Approved {
		t.Errorf("InspectMany = %+v, %v", sts, err)
	}
	forget(b)
	b.own("d1")
}

// A mailbox of a newer format is refused by every call, and nothing of it is rewritten.
func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	apps := []partner.ClientID{testApp}
	for name, call := range map[string]func(ctx context.Context, s *mailbox.Store) error{
		"Deposit": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.Deposit(ctx, testLife, "n", []tenant.Record{story("t1", "resume9")})
			return err
		},
		"DepositMany": func(ctx context.Context, s *mailbox.Store) error {
			_, errs := s.DepositMany(ctx, "n", []mailbox.Batch{{Life: testLife, Records: toPointers(story("t1", "resume9"))}})
			return errs[0]
		},
		"Approve": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.Approve(ctx, testLife, 0, []mailbox.Admission{{Tenant: "t9"}})
			return err
		},
		"Again": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.RequestResync(ctx, testLife, []mailbox.Admission{{Tenant: "t1"}})
			return err
		},
		"Dismiss": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.Dismiss(ctx, testLife, []tenant.ID{"t1"})
			return err
		},
		"Begin": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.Begin(ctx, testLife, "d2", 0)
			return err
		},
		"Exchange": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.Exchange(ctx, testLife, "d1", 5, nil)
			return err
		},
		"Finish": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.Finish(ctx, testLife, "d1", mailbox.Closing{Force: true})
			return err
		},
		"Beat": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.RenewLease(ctx, testLife, "d1")
			return err
		},
		"Switch": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.ApplySwitch(ctx, "n", mailbox.Switch{Life: testLife, Revision: 9})
			return err
		},
		"Sweep": func(ctx context.Context, s *mailbox.Store) error {
			_, errs := s.RepairWakeUps(ctx, "n", []mailbox.Switch{{Life: testLife, Revision: 9}})
			return errs[0]
		},
		"Open": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.EndCooldown(ctx, testLife, "n")
			return err
		},
		"Take": func(ctx context.Context, s *mailbox.Store) error {
			_, _, err := s.BeginAndClaim(ctx, testLife, "d2", 0, 5)
			return err
		},
		"Leave": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.SettleAndFinish(ctx, testLife, "d1", nil)
			return err
		},
		"Born": func(ctx context.Context, s *mailbox.Store) error { return s.BeginLife(ctx, at(7)) },
		"Died": func(ctx context.Context, s *mailbox.Store) error { return s.EndLife(ctx, at(7)) },
		"Cleared": func(ctx context.Context, s *mailbox.Store) error {
			_, err := cleared(ctx, s, 7, []tenant.ID{"t1"})
			return err
		},
		"View": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.View(ctx, testApp)
			return err
		},
		"Views": func(ctx context.Context, s *mailbox.Store) error {
			_, errs := s.Views(ctx, apps)
			return errs[0]
		},
		"ReadPairs": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.ReadPairs(ctx, testApp, []tenant.ID{"t1"})
			return err
		},
		"ReadPairsOfTenant": func(ctx context.Context, s *mailbox.Store) error {
			_, err := s.ReadPairsOfTenant(ctx, "t1", apps)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				b.tell("t1", "suspend5")
				b.own("d1")
				b.check(b.rdb.HSet(b.Context(), b.key(keys.AppMailbox), "format", "2").Err())
				before := fmt.Sprint(b.dump())
				if err := call(b.Context(), b.s); !errors.Is(err, mailbox.ErrFormat) || !strings.Contains(err.Error(), string(testApp)) {
					b.Errorf("error = %v, want ErrFormat and the app", err)
				}
				if after := fmt.Sprint(b.dump()); after != before {
					b.Errorf("the mailbox was rewritten:\n%s\n%s", before, after)
				}
			})
		})
	}
}

// Entries of a newer version are claimed, named and left as they are; others go on.
func TestUnreadableEntries(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"Garbage": "garbage", "Empty": "", "AttemptsOfAnotherShape": `5;1;a/b;0;1;{"v":1}`, "NoVersion": "5;x;0;0;1;{}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, quick(), func(b *box) {
				b.approved(1, "t1", "t2")
				b.tell("t1", "suspend5")
				b.tell("t2", "suspend5")
				b.check(b.rdb.HSet(b.Context(), b.key(keys.AppWaiting), "t1|status", value).Err())
				b.own("d1")
				x := b.exchange("d1", 5)
				if len(x.Claims) != 1 || x.Claims[0].Tenant != "t2" || len(x.Unreadable) != 1 || x.Unreadable[0] != "t1" {
					b.Fatalf("exchange = %+v, want t2 claimed and t1 unreadable", x)
				}
				b.exchange("d1", 0, ok(x.Claims[0]))
				if x := b.exchange("d1", 5); len(x.Unreadable) != 0 {
					b.Errorf("exchange = %+v, want the unreadable one to rest until its lease ends", x)
				}
				if got := b.rdb.HGet(b.Context(), b.key(keys.AppWaiting), "t1|status").Val(); got != value {
					b.Errorf("the entry became %q", got)
				}
				if _, err := b.s.ReadPairs(b.Context(), testApp, []tenant.ID{"t1"}); value != "" && err == nil {
					b.Error("inspect read the unreadable")
				}
				// A newer change replaces it, whatever it was.
				b.tell("t1", "resume6")
				b.expect("t1", "6 resume6+1 flight")
			})
		})
	}
}

// Who is due without an entry, which no call leaves behind, is passed over and forgotten.
func TestDueWithoutAnEntry(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		b.tell("t2", "suspend5")
		for _, foreign := range []string{"t1", "t9", "a|b", ""} {
			b.check(b.rdb.ZAdd(b.Context(), b.key(keys.AppDue), redis.Z{Score: 1, Member: foreign}).Err())
		}
		b.own("d1")
		if x := b.exchange("d1", 9); len(x.Claims) != 1 || x.Claims[0].Tenant != "t2" || len(x.Unreadable) != 0 {
			b.Errorf("exchange = %+v, want t2 alone", x)
		}
		if v := b.view(); v.Diverged != 1 || v.InFlight != 1 {
			b.Errorf("view = %+v, want t2 alone in flight", v)
		}
		b.check(b.rdb.ZAdd(b.Context(), b.key(keys.AppDue), redis.Z{Score: 1, Member: "t9"}).Err())
		if x := b.exchange("d1", 9); len(x.Claims) != 0 {
			b.Errorf("exchange = %+v, want nothing", x)
		}
	})
}

func TestUnreadableMarkIsRefused(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.check(b.rdb.HSet(b.Context(), b.key(keys.AppTenants), "t1", "v2:7").Err())
		if _, err := b.s.Deposit(b.Context(), testLife, "n", []tenant.Record{story("t1", "suspend5")}); !errors.Is(err, mailbox.ErrFormat) {
			b.Errorf("deposit error = %v, want ErrFormat", err)
		}
	})
}

// With Redis at maxmemory deposits are refused, and what frees memory goes on: a drainer that
// starts, settles, is replaced by the sweep's wake-up, and finishes.
func TestMaxMemory(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr})
	t.Cleanup(func() { _ = rdb.Close() })
	b := &box{TB: t, rdb: rdb, keys: keys.New(""), s: mailbox.New(rdb, keys.New(""), quick())}
	b.approved(1, "t1", "t2")
	b.tell("t1", "suspend5")
	b.tell("t2", "suspend5 move6")
	b.check(rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())

	_, err := b.s.Deposit(t.Context(), testLife, "n", []tenant.Record{story("t1", "resume7")})
	if !redis.HasErrorPrefix(err, "OOM") {
		t.Fatalf("deposit error = %v, want OOM", err)
	}
	b.expect("t1", "5 suspend5 due")
	b.own("d1")
	cs := b.exchange("d1", 2).Claims
	if len(cs) != 2 {
		t.Fatalf("%d claims, want 2", len(cs))
	}
	b.exchange("d1", 0, ok(cs[0]), failed(cs[1], 0))
	if !b.beats("d1") {
		t.Error("beat found another owner")
	}
	b.pass(quick().OwnerLease) // the drainer is gone: the sweep must find another
	w := b.sweep(1, true)
	if w.IsNone() {
		t.Fatal("sweep armed nothing")
	}
	if x := b.begin("d2", w.Generation); x.State != mailbox.Owned {
		t.Fatalf("begin = %+v", x)
	}
	for {
		x := b.exchange("d2", 5)
		if len(x.Claims) == 0 {
			break
		}
		for _, c := range x.Claims {
			b.exchange("d2", 0, ok(c))
		}
	}
	if f := b.finish("d2", mailbox.Closing{Probes: 1, Cooldown: time.Second}); f.State != mailbox.Done {
		t.Errorf("finish = %+v", f)
	}
	if _, err := b.s.EndCooldown(t.Context(), testLife, "o"); err != nil {
		t.Errorf("open: %v", err)
	}
	b.expect("t1", "5")
	b.expect("t2", "6")
	b.dismiss("t1")
	b.died(9)
}

// On a Cluster all keys of an app lie in one slot, and pipelined calls reach every node.
func TestCluster(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Clustered(t)
	b := &box{TB: t, rdb: rdb, keys: keys.New(prefix), s: mailbox.New(rdb, keys.New(prefix), mailbox.Settings{})}
	batches, switches := []mailbox.Batch{}, []mailbox.Switch{}
	apps := []partner.ClientID{}
	for i := range 12 {
		app := partner.ClientID("app" + strconv.Itoa(i))
		_, err := b.s.Approve(t.Context(), mailbox.Life{App: app}, 0, []mailbox.Admission{{Tenant: "t1", Top: 5}})
		b.check(err)
		apps = append(apps, app)
		batches = append(batches, mailbox.Batch{Life: mailbox.Life{App: app}, Records: toPointers(story("t1", "suspend5"))})
		switches = append(switches, mailbox.Switch{Life: mailbox.Life{App: app}, On: true})
	}
	b.deposit("warm") // one node knows the script, others may not
	ds, errs := b.s.DepositMany(t.Context(), "n", batches)
	b.check(errors.Join(errs...))
	for i, d := range ds {
		if d.Written != 1 || d.Wake.IsNone() {
			t.Errorf("deposit %d = %+v", i, d)
		}
	}
	ws, errs := b.s.RepairWakeUps(t.Context(), "s", switches)
	b.check(errors.Join(errs...))
	for i, w := range ws {
		if !w.IsNone() {
			t.Errorf("sweep %d = %+v, want nothing: a wake-up is armed", i, w)
		}
	}
	b.own("d1")
	b.exchange("d1", 0, ok(b.claim("d1")))
	b.finish("d1", mailbox.Closing{})
	vs, errs := b.s.Views(t.Context(), apps)
	b.check(errors.Join(errs...))
	for i, v := range vs {
		if want := int64(btoi(apps[i] != testApp)); v.Waiting != want || v.Approvals != 1 {
			t.Errorf("view of %s = %+v, want %d waiting", apps[i], v, want)
		}
	}
	sts, err := b.s.ReadPairsOfTenant(t.Context(), "t1", apps)
	b.check(err)
	if len(sts) != len(apps) || sts[1].HasPending() || !sts[2].HasPending() {
		t.Errorf("standings = %+v", sts)
	}
}
