package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var errWire = errors.New("the wire broke")

// wire is a go-redis hook that fails one script, before or after Redis ran it, once skip others have run.
type wire struct{ mode, skip atomic.Int32 }

const (
	wireSound = iota
	wireFailsBefore
	wireFailsAfter
)

func (w *wire) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (w *wire) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return w.cut([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (w *wire) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return w.cut(cmds, func() error { return next(ctx, cmds) })
	}
}

func (w *wire) cut(cmds []redis.Cmder, run func() error) error {
	mode := w.mode.Load()
	if !strings.HasPrefix(cmds[0].Name(), "eval") { // a connection's greeting, or a script being loaded
		return run()
	}
	if mode != wireSound && w.skip.Add(-1) >= 0 {
		return run()
	}
	if mode != wireFailsBefore {
		err := run()
		unknown := slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return redis.HasErrorPrefix(c.Err(), "NOSCRIPT") })
		if mode == wireSound || unknown { // an unknown script was not applied
			w.skip.Add(1)
			return err
		}
	}
	w.mode.Store(wireSound)
	for _, c := range cmds {
		c.SetErr(errWire)
	}
	return errWire
}

// twin is a call that changes a mailbox, with what goes before and after it. The call tells what it
// answered, and its error; scripts is how many it runs, of which each fails once, 0 for one.
type twin struct {
	before  func(b *box)
	call    func(b *box) (any, error)
	after   func(b *box)
	scripts int32
}

func twins() map[string]twin {
	rec := func() []tenant.Record { return []tenant.Record{story("t1", "suspend5 move6"), story("t2", "delete7")} }
	waits := func(b *box) {
		b.approved(1, "t1", "t2")
		b.deposit("first", rec()...)
	}
	owns := func(b *box) {
		waits(b)
		b.own("d1")
	}
	var held []mailbox.Claim
	outdated := func(b *box) {
		owns(b)
		held = b.exchange("d1", 2).Claims
		b.clearAlarms()
		b.check(func() error { _, err := b.s.EndCooldown(b.Context(), testLife, "o"); return err }())
	}
	ended := func(b *box) {
		owns(b)
		b.died(7)
	}
	return map[string]twin{
		"Deposit": {func(b *box) { b.approved(1, "t1", "t2") }, func(b *box) (any, error) {
			d, err := b.s.Deposit(b.Context(), testLife, "n", rec())
			return d.Wake, err
		}, nil, 0},
		"DepositMany": {func(b *box) { b.approved(1, "t1", "t2") }, func(b *box) (any, error) {
			ds, errs := b.s.DepositMany(b.Context(), "n", []mailbox.Batch{{Life: testLife, Records: toPointers(rec()...)}})
			return ds[0].Wake, errs[0]
		}, nil, 0},
		"Approve": {func(*box) {}, func(b *box) (any, error) {
			return b.s.Approve(b.Context(), testLife, 0, []mailbox.Admission{{Tenant: "t1", Top: 5}, {Tenant: "t2", Top: 6}})
		}, func(b *box) { b.deposit("n", rec()...) }, 0},
		"Again": {waits, func(b *box) (any, error) {
			return b.s.RequestResync(b.Context(), testLife, []mailbox.Admission{{Tenant: "t1", Top: 5}})
		}, func(b *box) { b.deposit("n", story("t1", "suspend5 move6")) }, 0},
		"Dismiss": {waits, func(b *box) (any, error) {
			_, err := b.s.Dismiss(b.Context(), testLife, []tenant.ID{"t1"})
			return nil, err
		}, nil, 0},
		"BeginOwned": {waits, func(b *box) (any, error) { return b.s.Begin(b.Context(), testLife, "d1", start.UnixMilli()) }, nil, 0},
		"BeginGated": {func(b *box) {
			owns(b)
			b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: 5 * time.Second})
			b.clearAlarms()
		}, func(b *box) (any, error) { return b.s.Begin(b.Context(), testLife, "d2", 0) }, nil, 0},
		// As of ExchangeOfClaims: the claims of the first try belong to nobody until their lease ends.
		"Take": {waits, func(b *box) (any, error) {
			begun, _, err := b.s.BeginAndClaim(b.Context(), testLife, "d1", start.UnixMilli(), 1)
			return begun, err
		}, tellAll, 0},
		"Leave": {func(b *box) {
			owns(b)
			held = b.exchange("d1", 2).Claims
		}, func(b *box) (any, error) {
			return b.s.SettleAndFinish(b.Context(), testLife, "d1", []mailbox.Settlement{ok(held[0]), failed(held[1], time.Minute)})
		}, nil, 0},
		"ExchangeOfResults": {func(b *box) {
			owns(b)
			held = b.exchange("d1", 2).Claims
		}, func(b *box) (any, error) {
			return b.s.Exchange(b.Context(), testLife, "d1", 0, []mailbox.Settlement{ok(held[0]), failed(held[1], time.Minute)})
		}, nil, 0},
		// What an exchange claimed whose answer was lost belongs to nobody until its lease ends.
		"ExchangeOfClaims": {owns, func(b *box) (any, error) {
			_, err := b.s.Exchange(b.Context(), testLife, "d1", 2, nil)
			return nil, err
		}, tellAll, 0},
		"FinishWithGate": {owns, func(b *box) (any, error) {
			return b.s.Finish(b.Context(), testLife, "d1", mailbox.Closing{Probes: 1, Cooldown: 5 * time.Second})
		}, nil, 0},
		"Finish": {owns, func(b *box) (any, error) {
			return b.s.Finish(b.Context(), testLife, "d1", mailbox.Closing{Force: true})
		}, nil, 0},
		// The second try finds nobody in; it need not know why.
		"FinishThatSwitchesOff": {owns, func(b *box) (any, error) {
			_, err := b.s.Finish(b.Context(), testLife, "d1", mailbox.Closing{OffRevision: 9})
			return nil, err
		}, nil, 0},
		"Beat": {owns, func(b *box) (any, error) { return b.s.RenewLease(b.Context(), testLife, "d1") }, nil, 0},
		"SwitchOff": {waits, func(b *box) (any, error) {
			return b.s.ApplySwitch(b.Context(), "n", mailbox.Switch{Life: testLife, Revision: 4})
		}, nil, 0},
		"SwitchOn": {func(b *box) {
			waits(b)
			b.turn(3, false)
			b.clearAlarms()
		}, func(b *box) (any, error) {
			return b.s.ApplySwitch(b.Context(), "n", mailbox.Switch{Life: testLife, Revision: 4, On: true})
		}, nil, 0},
		"Sweep": {func(b *box) {
			waits(b)
			b.pass(mailbox.DefaultGrace)
		}, func(b *box) (any, error) {
			ws, errs := b.s.RepairWakeUps(b.Context(), "n", []mailbox.Switch{{Life: testLife, On: true}})
			return ws[0], errs[0]
		}, nil, 0},
		"Open": {func(b *box) {
			owns(b)
			b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Minute})
		}, func(b *box) (any, error) { return b.s.EndCooldown(b.Context(), testLife, "n") }, nil, 0},
		"Born":    {owns, func(b *box) (any, error) { return nil, b.s.BeginLife(b.Context(), at(7)) }, nil, 0},
		"Died":    {owns, func(b *box) (any, error) { return nil, b.s.EndLife(b.Context(), at(7)) }, nil, 0},
		"Cleared": {ended, func(b *box) (any, error) { return cleared(b.Context(), b.s, 7, []tenant.ID{"t1"}) }, nil, 0},
		"ClearedToTheLast": {ended, func(b *box) (any, error) {
			return cleared(b.Context(), b.s, 7, []tenant.ID{"t1", "t2"})
		}, nil, 0},
		// A call that finds the former life runs, puts that aside, and runs again.
		"BeatOfANewLife": {owns, func(b *box) (any, error) { return b.s.RenewLease(b.Context(), at(7), "d1") }, nil, 3},
		"TakeOfANewLife": {owns, func(b *box) (any, error) {
			begun, x, err := b.s.BeginAndClaim(b.Context(), at(7), "d2", 0, 5)
			return fmt.Sprint(begun, len(x.Claims)), err
		}, nil, 3},
		"SweepOfANewLife": {owns, func(b *box) (any, error) {
			ws, errs := b.s.RepairWakeUps(b.Context(), "n", []mailbox.Switch{{Life: at(7), Revision: 7, EndpointRevision: 7}})
			return ws[0], errs[0]
		}, nil, 3},
		// What an outdated run brings says nothing of the endpoint as it is now, however often it comes.
		"OutdatedExchange": {outdated, func(b *box) (any, error) {
			return b.s.Exchange(b.Context(), testLife, "d1", 5, []mailbox.Settlement{ok(held[0]), failed(held[1], time.Minute)})
		}, nil, 0},
		"OutdatedLeave": {outdated, func(b *box) (any, error) {
			return b.s.SettleAndFinish(b.Context(), testLife, "d1", []mailbox.Settlement{ok(held[0]), failed(held[1], time.Minute)})
		}, nil, 0},
		"OutdatedFinish": {outdated, func(b *box) (any, error) {
			return b.s.Finish(b.Context(), testLife, "d1", mailbox.Closing{Probes: 1, Cooldown: time.Minute, OffRevision: 99})
		}, nil, 0},
		"OutdatedBegin": {outdated, func(b *box) (any, error) { return b.s.Begin(b.Context(), testLife, "d1", 0) }, nil, 0},
	}
}

// tellAll delivers everything once all leases have ended.
func tellAll(b *box) {
	b.pass(mailbox.DefaultEntryLease)
	b.clock.SetTime(start.Add(time.Hour))
	for {
		x := b.exchange("d1", 5)
		if len(x.Claims) == 0 {
			return
		}
		for _, c := range x.Claims {
			b.exchange("d1", 0, ok(c))
		}
	}
}

// Each call fails once, before or after it was applied, and is repeated as it was: the mailbox
// must end as if nothing had failed, and the repeat must answer as the lost answer did.
func TestFaultTwins(t *testing.T) {
	t.Parallel()
	for name := range twins() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			type end struct {
				Answer any
				Keys   map[string]string
			}
			var sound end
			for skip := range max(twins()[name].scripts, 1) {
				for _, mode := range []int32{wireSound, wireFailsBefore, wireFailsAfter} {
					tw := twins()[name]
					b := miniBox(t, mailbox.Settings{})
					w := &wire{}
					b.rdb.AddHook(w)
					tw.before(b)
					w.skip.Store(skip)
					w.mode.Store(mode)
					answer, err := tw.call(b)
					if mode != wireSound {
						if !errors.Is(err, errWire) || !strings.Contains(err.Error(), string(testApp)) {
							t.Fatalf("mode %d of script %d: a broken wire gives %v, want the cause and the app", mode, skip, err)
						}
						answer, err = tw.call(b)
					}
					b.check(err)
					if tw.after != nil {
						tw.after(b)
					}
					got := end{answer, b.dump()}
					if mode == wireSound {
						sound = got
					} else if d := cmp.Diff(sound, got); d != "" {
						t.Errorf("mode %d of script %d ends otherwise (-sound +repeated):\n%s", mode, skip, d)
					}
				}
			}
		})
	}
}

// dumpFormer reads the approvals of the former lives that a mailbox names.
func (b *box) dumpFormer(births string, out map[string]string) {
	b.Helper()
	for birth := range strings.SplitSeq(births, ",") {
		m, err := b.rdb.HGetAll(b.Context(), b.key(keys.AppFormer)+":"+birth).Result()
		b.check(err)
		for f, v := range m {
			out["former "+birth+" "+f] = v
		}
	}
}

// dump reads all keys of the app. Versions, stamps and a telling's nonce are left out where a
// lost claim uses one up.
func (b *box) dump() map[string]string {
	b.Helper()
	out := map[string]string{}
	for _, k := range []keys.AppKey{keys.AppTenants, keys.AppWaiting, keys.AppMailbox} {
		m, err := b.rdb.HGetAll(b.Context(), b.key(k)).Result()
		b.check(err)
		for f, v := range m {
			if f != "stamp" {
				out[string(k)+" "+f] = v
			}
			if f == "former" {
				b.dumpFormer(v, out)
			}
		}
	}
	for _, k := range []keys.AppKey{keys.AppMailbox, keys.AppFlight} {
		out[string(k)+" expires"] = strconv.FormatBool(b.rdb.TTL(b.Context(), b.key(k)).Val() > 0)
	}
	for _, k := range []keys.AppKey{keys.AppDue, keys.AppFlight} {
		zs, err := b.rdb.ZRangeWithScores(b.Context(), b.key(k), 0, -1).Result()
		b.check(err)
		for _, z := range zs {
			out[fmt.Sprintf("%s %s", k, z.Member)] = fmt.Sprintf("%.0f", z.Score)
		}
	}
	return out
}
