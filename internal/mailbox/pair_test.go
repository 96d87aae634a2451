package mailbox_test

import (
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func (b *box) take(token string, want int) (mailbox.Begun, mailbox.Exchanged) {
	b.Helper()
	begun, x, err := b.s.Take(b.Context(), testLife, token, 0, want)
	b.check(err)
	return begun, x
}

func (b *box) leave(token string, rs ...mailbox.Settlement) mailbox.Finished {
	b.Helper()
	f, err := b.s.Leave(b.Context(), testLife, token, rs)
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
		if begun.State != mailbox.Owned || begun.Probe || !x.Owner || len(x.Claims) != 2 || x.Claims[0].Stamp == 0 {
			b.Errorf("take = %+v %+v, want two claims", begun, x)
		}
		if begun, x := b.take("d2", 2); begun.State != mailbox.Busy || x.Owner || len(x.Claims) != 0 {
			b.Errorf("another's take = %+v %+v, want busy", begun, x)
		}
		if begun, x := b.take("d1", 2); begun.State != mailbox.Owned || len(x.Claims) != 1 {
			b.Errorf("repeated take = %+v %+v, want what the first left", begun, x)
		}
		b.finish("d1", mailbox.Closing{Gate: 2 * time.Second})
		if begun, x := b.take("d1", 2); begun.State != mailbox.Gated || x.Owner {
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
		b.finish("d1", mailbox.Closing{Gate: time.Second})
		b.pass(time.Second)
		begun, x := b.take("d2", 10)
		if begun.State != mailbox.Owned || !begun.Probe || len(x.Claims) != 1 {
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
		if f := b.leave("d1", failed(c, time.Second)); f.State != mailbox.Done || f.Wake.None() || f.Wake.Delay > time.Second {
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

// A Redis that restarted meets a stranger's Finish first: Leave must still hand its results in before
// it gives the mailbox up.
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
		sts, err := b.s.Inspect(b.Context(), testApp, []tenant.ID{"t1"})
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
