package mailbox_test

import (
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// When Redis' clock leaps forward every lease ends at once: another drainer claims again, with a stamp
// that the first one's late results cannot touch.
func TestClockLeapsForward(t *testing.T) {
	t.Parallel()
	b := miniBox(t, mailbox.Settings{})
	b.approved(1, "t1", "t2")
	b.tell("t1", "suspend5")
	b.tell("t2", "suspend5")
	b.own("d1")
	early := b.exchange("d1", 2).Claims
	b.pass(24 * time.Hour)
	b.own("d2")
	again := b.exchange("d2", 2).Claims
	if len(again) != 2 || again[0].Stamp <= early[0].Stamp {
		t.Fatalf("claimed %+v again after %+v", again, early)
	}
	if x := b.exchange("d1", 2, release(early[0]), ok(early[1])); x.Owner || len(x.Claims) != 0 {
		t.Errorf("the first drainer still owns: %+v", x)
	}
	b.exchange("d2", 0, ok(again[0]), ok(again[1]))
	b.expect("t1", "5")
	b.expect("t2", "5")
	if f := b.finish("d2", mailbox.Closing{}); f.State != mailbox.Done {
		t.Errorf("finish: %+v", f)
	}
}

// When it leaps back, what waits is put off by the leap at most, and stamps grow all the same. A newer
// change is told at once.
func TestClockLeapsBack(t *testing.T) {
	t.Parallel()
	const leap = time.Minute
	b := miniBox(t, mailbox.Settings{})
	b.approved(1, "t1", "t2")
	b.tell("t1", "suspend5")
	b.tell("t2", "suspend5")
	b.own("d1")
	c := b.claim("d1")
	b.exchange("d1", 0, release(c))
	b.finish("d1", mailbox.Closing{Force: true})
	b.pass(-leap)
	b.own("d2")
	if x := b.exchange("d2", 2); len(x.Claims) != 0 {
		t.Errorf("claimed %+v before it is due", x.Claims)
	}
	b.tell("t2", "resume7")
	x := b.exchange("d2", 2)
	if len(x.Claims) != 1 || x.Claims[0].Tenant != "t2" || x.Claims[0].Stamp <= c.Stamp {
		t.Fatalf("claimed %+v, want the newer change of t2 with a stamp above %d", x.Claims, c.Stamp)
	}
	b.exchange("d2", 0, ok(x.Claims[0]))
	b.finish("d2", mailbox.Closing{Force: true})
	b.pass(leap)
	b.own("d3")
	last := b.claim("d3")
	b.exchange("d3", 0, ok(last))
	b.expect("t1", "5")
	b.expect("t2", "7")
}
