package mailbox_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func (b *box) take(token string, want int) (mailbox.BeginResult, mailbox.ExchangeResult) {
	b.Helper()
	begun, x, err := b.s.BeginAndClaim(b.Context(), b.life(), token, 0, want)
	b.check(err)
	return begun, x
}

func (b *box) leave(token string, rs ...mailbox.Settlement) mailbox.FinishResult {
	b.Helper()
	f, err := b.s.SettleAndFinish(b.Context(), b.life(), token, rs)
	b.check(err)
	return f
}

// Each outcome of Begin, with the claims that come along.
func TestTake(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2", "t3")
		for _, tn := range []tenant.ID{"t1", "t2", "t3"} {
			b.tell(tn, "suspend5")
		}
		begun, x := b.take("d1", 2)
		if begun.State != mailbox.Owned || begun.Probes > 0 || !x.Owner || len(x.Claims) != 2 || x.Claims[0].Stamp == 0 {
			b.Errorf("take = %+v %+v, want two claims", begun, x)
		}
		if begun, x := b.take("d2", 2); begun.State != mailbox.Busy || x.Owner || len(x.Claims) != 0 {
			b.Errorf("another's take = %+v %+v, want busy", begun, x)
		}
		if begun, x := b.take("d1", 2); begun.State != mailbox.Owned || len(x.Claims) != 1 {
			b.Errorf("repeated take = %+v %+v, want what the first left", begun, x)
		}
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: 2 * time.Second})
		if begun, x := b.take("d1", 2); begun.State != mailbox.CircuitOpen || x.Owner {
			b.Errorf("take at a closed gate = %+v %+v", begun, x)
		}
		b.turn(4, false)
		if begun, x := b.take("d1", 2); begun.State != mailbox.Off || x.Owner {
			b.Errorf("take when off = %+v %+v", begun, x)
		}
	})
}

// However many are wanted, an endpoint whose gate ran out is proven by one.
func TestTakeProbes(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2", "t3")
		for _, tn := range []tenant.ID{"t1", "t2", "t3"} {
			b.tell(tn, "suspend5")
		}
		b.own("d1")
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Second})
		b.pass(time.Second)
		begun, x := b.take("d2", 10)
		if begun.State != mailbox.Owned || begun.Probes == 0 || len(x.Claims) != 1 {
			b.Fatalf("take = %+v %+v, want one probe", begun, x)
		}
		if x := b.exchange("d2", 10, ok(x.Claims[0])); len(x.Claims) != 2 {
			b.Errorf("exchange with the probe's success = %+v, want the rest", x)
		}
	})
}

func TestLeave(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		b.tell("t1", "suspend5")
		b.own("d1")
		c := b.claim("d1")
		b.tell("t2", "suspend6")
		if f := b.leave("d1", ok(c)); f.State != mailbox.More {
			b.Errorf("leave = %+v although something is due", f)
		}
		b.expect("t1", "5")
		c = b.claim("d1")
		b.clearAlarms()
		if f := b.leave("d1", failed(c, time.Second)); f.State != mailbox.Done || f.Wake.IsNone() || f.Wake.Delay > time.Second {
			b.Errorf("leave = %+v, want done and a wake-up for what failed", f)
		}
		if f := b.leave("d1", ok(c)); f.State != mailbox.Done {
			b.Errorf("repeated leave = %+v, want the same end", f)
		}
		if f := b.leave("d9", ok(c)); f.State != mailbox.Lost {
			b.Errorf("a stranger's leave = %+v", f)
		}
	})
}

// A Redis that restarted sees the Finish of another drainer first: SettleAndFinish must still settle its results before
// it gives the mailbox back.
func TestLeaveAfterAnothersFinish(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		_, x := b.take("d1", 1)
		b.check(b.rdb.ScriptFlush(b.Context()).Err())
		if f := b.finish("d9", mailbox.Closing{}); f.State != mailbox.Lost {
			b.Errorf("a stranger's finish = %+v", f)
		}
		if f := b.leave("d1", failed(x.Claims[0], time.Second)); f.State != mailbox.Done {
			b.Errorf("leave = %+v", f)
		}
		sts, err := b.s.ReadPairs(b.Context(), testApp, []tenant.ID{"t1"})
		b.check(err)
		if sts[0].InFlight || sts[0].Entries[tenant.SlotStatus].Attempts != 1 {
			b.Errorf("the result is not in the mailbox: %+v", sts[0])
		}
	})
}

// Redis may have forgotten the scripts: a restart, SCRIPT FLUSH, another node.
func TestPairsAfterScriptsWereForgotten(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.check(b.rdb.ScriptFlush(b.Context()).Err())
		_, x := b.take("d1", 1)
		if len(x.Claims) != 1 {
			b.Fatalf("take = %+v", x)
		}
		b.check(b.rdb.ScriptFlush(b.Context()).Err())
		if f := b.leave("d1", ok(x.Claims[0])); f.State != mailbox.Done {
			b.Errorf("leave = %+v", f)
		}
		b.expect("t1", "5")
	})
}

// revised is the box with a store that reads the settings' revision from a key.
func (b *box) revised(key string) {
	b.s = mailbox.New(b.rdb, b.keys, mailbox.Settings{RevisionKey: key})
}

func TestTakeReadsTheRevisionOfTheSettings(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		key := b.keys.Config(keys.ConfigRevision)
		if begun, _ := b.take("d0", 1); begun.SettingsRevision != 0 {
			b.Errorf("take that was not asked = %+v", begun)
		}
		b.finish("d0", mailbox.Closing{})
		b.revised(key)
		if begun, x := b.take("d1", 1); begun.State != mailbox.Owned || begun.SettingsRevision != 0 || !x.Owner {
			b.Errorf("take without a revision = %+v, %+v", begun, x)
		}
		b.check(b.rdb.Set(b.Context(), key, "41", 0).Err())
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		if b.clock != nil {
			b.check(b.rdb.ScriptFlush(b.Context()).Err())
		}
		if begun, x := b.take("d1", 1); begun.SettingsRevision != 41 || len(x.Claims) != 1 {
			b.Errorf("take = %+v, %+v, want revision 41", begun, x)
		}
		if begun, _ := b.take("d2", 1); begun.State != mailbox.Busy || begun.SettingsRevision != 0 {
			b.Errorf("another's take = %+v", begun)
		}
		b.finish("d1", mailbox.Closing{Force: true})
		b.birth = 7 // what begins the life reads it, too
		if begun, _ := b.take("d3", 1); begun.State != mailbox.Owned || begun.SettingsRevision != 41 {
			b.Errorf("take of a new life = %+v", begun)
		}
	})
}

// The revision is read behind the claims: of a key that the claims themselves make another type of, it fails.
func TestTakeReadsTheRevisionBehindTheClaims(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		b.revised(b.key(keys.AppFlight)) // there is none before the first claim
		_, _, err := b.s.BeginAndClaim(b.Context(), b.life(), "d1", 0, 1)
		if err == nil || !strings.Contains(err.Error(), "WRONGTYPE") || !strings.Contains(err.Error(), string(testApp)) {
			b.Errorf("take = %v, want the type of what was claimed", err)
		}
		b.expect("t1", "5 suspend5 flight")
	})
}

// A revision that is none fails the call as a whole: nobody may post by settings of which nothing is known.
func TestTakeWithoutAReadableRevision(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "1.5", "99999999999999999999"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				key := b.keys.Config(keys.ConfigRevision)
				b.check(b.rdb.Set(b.Context(), key, text, 0).Err())
				b.revised(key)
				begun, x, err := b.s.BeginAndClaim(b.Context(), b.life(), "d1", 0, 1)
				if err == nil || !strings.Contains(err.Error(), key) || begun != (mailbox.BeginResult{}) || x.Owner {
					b.Errorf("take = %+v, %+v, %v", begun, x, err)
				}
			})
		})
	}
}

// meanwhile runs something once, when a call with scripts was answered.
type meanwhile struct{ do func() }

func (m *meanwhile) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (m *meanwhile) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (m *meanwhile) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if do := m.do; do != nil && strings.HasPrefix(cmds[0].Name(), "eval") && err == nil {
			m.do = nil
			do()
		}
		return err
	}
}

// The nodes of a Cluster go their own way: there the revision is read once the claims were answered.
func TestTakeOnAClusterReadsTheRevisionAfterwards(t *testing.T) {
	t.Parallel()
	rdb, prefix := redistest.Clustered(t)
	k := keys.New(prefix)
	b := &box{TB: t, rdb: rdb, keys: k, s: mailbox.New(rdb, k, mailbox.Settings{RevisionKey: k.Config(keys.ConfigRevision)})}
	b.take("d0", 0) // whatever has to be loaded
	b.finish("d0", mailbox.Closing{})
	set := func(n int) { b.check(rdb.Set(t.Context(), k.Config(keys.ConfigRevision), n, 0).Err()) }
	set(7)
	rdb.AddHook(&meanwhile{do: func() { set(8) }})
	if begun, _ := b.take("d1", 1); begun.SettingsRevision != 8 {
		t.Errorf("take = %+v, want the revision that was written meanwhile", begun)
	}
}
