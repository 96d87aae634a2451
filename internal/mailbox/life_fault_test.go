package mailbox_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// A birth whose approvals are gone, which no call leaves behind, is struck off all the same.
func TestFormerLifeWithoutApprovals(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.check(b.rdb.HSet(b.Context(), b.key(keys.AppMailbox), "former", "5,x,-3,,12345678901234567890,7").Err())
		if v := b.view(); !slices.Equal(v.Former, []int64{5, 7}) {
			b.Fatalf("former lives %v", v.Former)
		}
		for _, birth := range []int64{5, 7} {
			if ts := b.formerly(birth); len(ts) != 0 {
				b.Errorf("approved: %v", ts)
			}
			if left, err := cleared(b.Context(), b.s, birth, nil); left != 0 || err != nil {
				b.Errorf("%d left, %v", left, err)
			}
		}
		if v := b.view(); len(v.Former) != 0 {
			b.Errorf("former lives %v", v.Former)
		}
	})
}

// A birth that is no number is refused, not taken for the first one: else the next call would put the living
// approvals aside.
func TestUnreadableBirth(t *testing.T) {
	t.Parallel()
	for _, birth := range []string{"", "x", "-1", "1.5", "0x10", "1e3", " 7", "7 ", "nan", "inf", "9999999999999999"} {
		t.Run(birth, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				b.check(b.rdb.HSet(b.Context(), b.key(keys.AppMailbox), "birth", birth).Err())
				before := fmt.Sprint(b.dump())
				for name, call := range writes() {
					for _, l := range []mailbox.Life{at(0), at(8)} {
						if _, err := call(b.Context(), b.s, l); !errors.Is(err, mailbox.ErrFormat) {
							b.Errorf("%s: %v, want ErrFormat", name, err)
						}
					}
				}
				if after := fmt.Sprint(b.dump()); after != before {
					b.Errorf("the mailbox was rewritten:\n%s\n%s", before, after)
				}
			})
		})
	}
}

// A birth beyond what Lua counts exactly would be read as another one.
func TestBirthBeyondExactNumbers(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		before := fmt.Sprint(b.dump())
		for name, call := range writes() {
			if name == "Finish" { // owns nothing, whatever the birth
				continue
			}
			if _, err := call(b.Context(), b.s, at(1<<53)); !errors.Is(err, mailbox.ErrFormat) {
				b.Errorf("%s: %v, want ErrFormat", name, err)
			}
		}
		if after := fmt.Sprint(b.dump()); after != before {
			b.Errorf("the mailbox was rewritten:\n%s\n%s", before, after)
		}
		b.birth = 999_999_999_999_999
		b.check(b.s.BeginLife(b.Context(), b.life()))
		b.own("d1")
	})
}

// Counters that are no numbers are counted anew; nothing stays half done.
func TestUnreadableCounters(t *testing.T) {
	t.Parallel()
	for _, garbage := range []string{"x", "", "-1", "nan", "1.5", "99999999999999999999"} {
		t.Run(garbage, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				b.own("d1")
				spoil := func(fields ...string) {
					for _, f := range fields {
						b.check(b.rdb.HSet(b.Context(), b.key(keys.AppMailbox), f, garbage).Err())
					}
				}
				spoil("epoch", "dismissals", "erev")
				b.turn(3, false)
				b.turn(4, true)
				if got := b.field("epoch"); got != "1" {
					b.Errorf("epoch %q, want 1", got)
				}
				if x := b.exchange("d1", 5); !x.Outdated {
					b.Errorf("exchange = %+v", x)
				}
				spoil("epoch")
				_, err := b.s.EndCooldown(b.Context(), b.life(), "n")
				b.check(err)
				if got := b.field("epoch"); got != "1" {
					b.Errorf("epoch %q, want 1", got)
				}
				b.dismiss("t1")
				if n := b.dismissals(); n != 1 {
					b.Errorf("%d dismissals, want 1", n)
				}
				spoil("dismissals", "epoch", "oepoch", "erev", "former", "ended")
				b.check(b.rdb.HSet(b.Context(), b.key(keys.AppTenants), "t2", "5").Err())
				b.birth = 7
				b.own("d2")
				if n := b.dismissals(); n != 1 {
					b.Errorf("%d dismissals, want 1", n)
				}
			})
		})
	}
}

// A key of another type is an error that leaves the mailbox as it was, or is removed with the life it was in.
func TestKeysOfAnotherType(t *testing.T) {
	t.Parallel()
	for k, removed := range map[keys.AppKey]bool{keys.AppTenants: true, keys.AppWaiting: true, keys.AppDue: true, keys.AppFlight: false, keys.AppMailbox: false} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				b.check(b.rdb.Del(b.Context(), b.key(k)).Err())
				b.check(b.rdb.LPush(b.Context(), b.key(k), "x").Err())
				err := b.s.BeginLife(b.Context(), at(7))
				if (err != nil) != (k == keys.AppMailbox) {
					b.Errorf("born: %v", err)
				}
				if kind := b.rdb.Type(b.Context(), b.key(k)).Val(); (kind == "none") != removed {
					b.Errorf("the key is a %s", kind)
				}
			})
		})
	}
	t.Run("former", func(t *testing.T) {
		t.Parallel()
		each(t, mailbox.Settings{}, func(b *box) {
			b.check(b.rdb.LPush(b.Context(), b.former(7), "x").Err())
			if _, err := b.s.ReadFormerApprovals(b.Context(), at(7)); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") || !strings.Contains(err.Error(), string(testApp)) {
				b.Errorf("former: %v", err)
			}
			if _, err := cleared(b.Context(), b.s, 7, []tenant.ID{"t1"}); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
				b.Errorf("cleared: %v", err)
			}
		})
	})
}

// A mailbox that an older version wrote knows no birth, no epoch and no revision of its endpoint. Calls for an
// app that was never made anew go on in it, and its first switch opens nothing.
func TestMailboxOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		ctx := b.Context()
		b.check(b.rdb.HSet(ctx, b.key(keys.AppTenants), "t1", "5", "t2", "5").Err())
		b.check(b.rdb.HSet(ctx, b.key(keys.AppMailbox), "format", "1", "srev", "40", "version", "8", "gate", "1", "gopen", "3", "owner", "old", "oexp", "1").Err())
		b.check(b.rdb.HSet(ctx, b.key(keys.AppWaiting), "t1|status", `5;8;0;0;1;{"v":1}`).Err())
		b.check(b.rdb.ZAdd(ctx, b.key(keys.AppDue), redis.Z{Score: 1, Member: "t1"}).Err())
		if x := b.exchange("old", 0); !x.Owner || x.Outdated { // a run of before
			b.Errorf("exchange = %+v", x)
		}
		b.sweep(41, true)
		if v := b.view(); v.Openings != 3 || v.CooldownUntil.IsZero() || b.field("epoch") != "" {
			b.Errorf("the first switch opened the endpoint: %+v", v)
		}
		if f := b.finish("old", mailbox.Closing{Force: true}); f.State != mailbox.Done || f.Outdated {
			b.Errorf("finish = %+v", f)
		}
		b.tell("t2", "resume6")
		if x := b.own("d1"); x.Probes == 0 || x.Openings != 3 {
			b.Errorf("begin = %+v", x)
		}
		if v := b.view(); v.Birth != 0 || v.Approvals != 2 || v.Waiting != 2 || len(v.Former) != 0 {
			b.Errorf("view = %+v", v)
		}
	})
}

// With Redis at maxmemory a life ends and begins, and former approvals are cleared away: all that frees memory.
func TestLivesAtMaxMemory(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr})
	t.Cleanup(func() { _ = rdb.Close() })
	b := &box{TB: t, rdb: rdb, keys: keys.New(""), s: mailbox.New(rdb, keys.New(""), quick())}
	b.approved(1, "t1", "t2")
	b.tell("t1", "suspend5")
	b.check(rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	b.birth = 5
	if _, err := b.s.Approve(t.Context(), b.life(), 1, []mailbox.Admission{{Tenant: "t1", Top: 7}}); !redis.HasErrorPrefix(err, "OOM") {
		t.Errorf("approve error = %v, want OOM", err)
	}
	if v := b.view(); v.Birth != 5 || v.Waiting != 0 || v.Approvals != 0 {
		t.Errorf("view = %+v, want a new life", v)
	}
	b.check(rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	b.approved(1, "t3")
	b.check(rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	b.died(6)
	b.birth = 7
	b.own("d1")
	for birth, page := range map[int64][]tenant.ID{5: {"t1", "t2"}, 6: {"t3"}} {
		if got := b.formerly(birth); !slices.Equal(got, page) {
			t.Errorf("former %d: %v, want %v", birth, got, page)
		}
		if left, err := cleared(t.Context(), b.s, birth, page); left != 0 || err != nil {
			t.Errorf("%d left, %v", left, err)
		}
	}
}
