package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
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

// wire is a go-redis hook that fails one script, before or after Redis ran it.
type wire struct{ mode atomic.Int32 }

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
	if mode != wireFailsBefore {
		err := run()
		unknown := slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return redis.HasErrorPrefix(c.Err(), "NOSCRIPT") })
		if mode == wireSound || unknown { // an unknown script was not applied
			return err
		}
	}
	w.mode.Store(wireSound)
	for _, c := range cmds {
		c.SetErr(errWire)
	}
	return errWire
}

// twins are the calls that change a mailbox, each with what goes before it. A call tells what it
// answered, and its error.
func twins() map[string]struct {
	before func(b *box)
	call   func(b *box) (any, error)
	after  func(b *box)
} {
	rec := func() []tenant.Record { return []tenant.Record{story("t1", "suspend5 move6"), story("t2", "delete7")} }
	type twin = struct {
		before func(b *box)
		call   func(b *box) (any, error)
		after  func(b *box)
	}
	waits := func(b *box) {
		b.approved(1, "t1", "t2")
		b.deposit("first", rec()...)
	}
	owns := func(b *box) {
		waits(b)
		b.own("d1")
	}
	var held []mailbox.Claim
	return map[string]twin{
		"Deposit": {func(b *box) { b.approved(1, "t1", "t2") }, func(b *box) (any, error) {
			d, err := b.s.Deposit(b.Context(), testLife, "n", rec())
			return d.Wake, err
		}, nil},
		"DepositMany": {func(b *box) { b.approved(1, "t1", "t2") }, func(b *box) (any, error) {
			ds, errs := b.s.DepositMany(b.Context(), "n", []mailbox.Batch{{App: testApp, Records: rec()}})
			return ds[0].Wake, errs[0]
		}, nil},
		"Approve": {func(*box) {}, func(b *box) (any, error) {
			return b.s.Approve(b.Context(), testLife, 0, []mailbox.Admission{{Tenant: "t1", Top: 5}, {Tenant: "t2", Top: 6}})
		}, func(b *box) { b.deposit("n", rec()...) }},
		"Again": {waits, func(b *box) (any, error) {
			return b.s.Again(b.Context(), testLife, []mailbox.Admission{{Tenant: "t1", Top: 5}})
		}, func(b *box) { b.deposit("n", story("t1", "suspend5 move6")) }},
		"Dismiss": {waits, func(b *box) (any, error) {
			_, err := b.s.Dismiss(b.Context(), testLife, []tenant.ID{"t1"})
			return nil, err
		}, nil},
		"BeginOwned": {waits, func(b *box) (any, error) { return b.s.Begin(b.Context(), testLife, "d1", start.UnixMilli()) }, nil},
		"BeginGated": {func(b *box) {
			owns(b)
			b.finish("d1", mailbox.Closing{Gate: 5 * time.Second})
			b.clearAlarms()
		}, func(b *box) (any, error) { return b.s.Begin(b.Context(), testLife, "d2", 0) }, nil},
		// As of ExchangeOfClaims: the claims of the first try belong to nobody until their lease ends.
		"Take": {waits, func(b *box) (any, error) {
			begun, _, err := b.s.Take(b.Context(), testLife, "d1", start.UnixMilli(), 1)
			return begun, err
		}, tellAll},
		"Leave": {func(b *box) {
			owns(b)
			held = b.exchange("d1", 2).Claims
		}, func(b *box) (any, error) {
			return b.s.Leave(b.Context(), testLife, "d1", []mailbox.Settlement{ok(held[0]), failed(held[1], time.Minute)})
		}, nil},
		"ExchangeOfResults": {func(b *box) {
			owns(b)
			held = b.exchange("d1", 2).Claims
		}, func(b *box) (any, error) {
			return b.s.Exchange(b.Context(), testLife, "d1", 0, []mailbox.Settlement{ok(held[0]), failed(held[1], time.Minute)})
		}, nil},
		// What an exchange claimed whose answer was lost belongs to nobody until its lease ends.
		"ExchangeOfClaims": {owns, func(b *box) (any, error) {
			_, err := b.s.Exchange(b.Context(), testLife, "d1", 2, nil)
			return nil, err
		}, tellAll},
		"FinishWithGate": {owns, func(b *box) (any, error) {
			return b.s.Finish(b.Context(), testLife, "d1", mailbox.Closing{Gate: 5 * time.Second})
		}, nil},
		"Finish": {owns, func(b *box) (any, error) {
			return b.s.Finish(b.Context(), testLife, "d1", mailbox.Closing{Force: true})
		}, nil},
		// The second try finds nobody in; it need not know why.
		"FinishThatSwitchesOff": {owns, func(b *box) (any, error) {
			_, err := b.s.Finish(b.Context(), testLife, "d1", mailbox.Closing{OffRevision: 9})
			return nil, err
		}, nil},
		"Beat": {owns, func(b *box) (any, error) { return b.s.Beat(b.Context(), testLife, "d1") }, nil},
		"SwitchOff": {waits, func(b *box) (any, error) {
			return b.s.Switch(b.Context(), "n", mailbox.Switch{Life: testLife, Revision: 4})
		}, nil},
		"SwitchOn": {func(b *box) {
			waits(b)
			b.turn(3, false)
			b.clearAlarms()
		}, func(b *box) (any, error) {
			return b.s.Switch(b.Context(), "n", mailbox.Switch{Life: testLife, Revision: 4, On: true})
		}, nil},
		"Sweep": {func(b *box) {
			waits(b)
			b.pass(mailbox.DefaultGrace)
		}, func(b *box) (any, error) {
			ws, errs := b.s.Sweep(b.Context(), "n", []mailbox.Switch{{App: testApp, On: true}})
			return ws[0], errs[0]
		}, nil},
		"Open": {func(b *box) {
			owns(b)
			b.finish("d1", mailbox.Closing{Gate: time.Minute})
		}, func(b *box) (any, error) { return b.s.Open(b.Context(), testLife, "n") }, nil},
		"Drop": {owns, func(b *box) (any, error) { return nil, b.s.Drop(b.Context(), testApp, 0) }, nil},
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
			for _, mode := range []int32{wireSound, wireFailsBefore, wireFailsAfter} {
				tw := twins()[name]
				b := miniBox(t, mailbox.Settings{})
				w := &wire{}
				b.rdb.AddHook(w)
				tw.before(b)
				w.mode.Store(mode)
				answer, err := tw.call(b)
				if mode != wireSound {
					if !errors.Is(err, errWire) || !strings.Contains(err.Error(), string(testApp)) {
						t.Fatalf("mode %d: a broken wire gives %v, want the cause and the app", mode, err)
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
					t.Errorf("mode %d ends otherwise (-sound +repeated):\n%s", mode, d)
				}
			}
		})
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
		}
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
