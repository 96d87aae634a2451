package mailbox_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// crowdOf approves so many tenants and has a change wait for each, in their order.
func (b *box) crowdOf(n int) (ids []tenant.ID) {
	b.Helper()
	for i := range n {
		ids = append(ids, tenant.ID(fmt.Sprintf("t%04d", i)))
	}
	for chunk := range slices.Chunk(ids, mailbox.MaxBatch) {
		b.approved(1, chunk...)
		var recs []tenant.Record
		for _, id := range chunk {
			recs = append(recs, story(id, "suspend5"))
		}
		b.deposit("n", recs...)
	}
	return ids
}

func claimedIDs(x mailbox.ExchangeResult) (ids []tenant.ID) {
	for _, c := range x.Claims {
		ids = append(ids, c.Tenant)
	}
	return ids
}

// A gate that has run out lets so many tenants prove the endpoint as it was closed with, whatever is wanted: half of them from the end
// of what is due, and of that only what was not tried.
func TestProbesComeFromBothEnds(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		ids := b.crowdOf(300)
		b.own("d1")
		first := b.exchange("d1", 250).Claims // 200 of them
		b.pass(2 * time.Millisecond)
		var back []mailbox.Settlement
		for i, c := range first {
			if i < 100 {
				back = append(back, failed(c, 0)) // tried, and at the end now
			} else {
				back = append(back, mailbox.Settlement{Claim: c, Result: mailbox.Release})
			}
		}
		b.exchange("d1", 0, back...)
		b.finish("d1", mailbox.Closing{Probes: 5, Cooldown: time.Millisecond})
		b.pass(2 * time.Millisecond)
		if x := b.own("d2"); x.Probes != 5 || x.Openings != 1 {
			b.Fatalf("begin = %+v", x)
		}
		x := b.exchange("d2", 1)
		want := []tenant.ID{ids[100], ids[101], ids[102], ids[299], ids[298]}
		if got := claimedIDs(x); !slices.Equal(got, want) {
			b.Fatalf("probes %v, want %v", got, want)
		}
		// one that is refused for its own sake proves the endpoint
		b.exchange("d2", 0, mailbox.Settlement{Claim: x.Claims[3], Result: mailbox.Failed, Well: true, Step: true, Delay: time.Hour})
		if got := claimedIDs(b.exchange("d2", 3)); !slices.Equal(got, ids[103:106]) {
			b.Errorf("claimed %v once it was proved", got)
		}
	})
}

// Where all were tried, what is due first is tried again.
func TestProbesOfWhatWasAllTried(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		ids := b.crowdOf(8)
		b.own("d1")
		var back []mailbox.Settlement
		for i, c := range b.exchange("d1", 8).Claims {
			back = append(back, failed(c, time.Duration(i)*time.Millisecond))
		}
		b.exchange("d1", 0, back...)
		b.finish("d1", mailbox.Closing{Probes: 5, Cooldown: 10 * time.Millisecond})
		b.pass(10 * time.Millisecond)
		b.own("d2")
		if got := claimedIDs(b.exchange("d2", 1)); !slices.Equal(got, ids[:5]) {
			b.Errorf("probes %v", got)
		}
	})
}

// A pause that the endpoint asked for is kept; when it is over nothing is to be proved, and it counts as no opening.
func TestAPauseProvesNothing(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		ids := b.crowdOf(4)
		b.own("d1")
		b.finish("d1", mailbox.Closing{Cooldown: 20 * time.Millisecond})
		if x := b.begin("d2", 0); x.State != mailbox.CircuitOpen {
			b.Fatalf("begin = %+v within the pause", x)
		}
		b.pass(20 * time.Millisecond)
		if x := b.own("d2"); x.Probes != 0 || x.Openings != 0 {
			b.Errorf("begin = %+v", x)
		}
		if got := claimedIDs(b.exchange("d2", 4)); !slices.Equal(got, ids) {
			b.Errorf("claimed %v", got)
		}
		if v := b.view(); !v.CooldownUntil.IsZero() {
			b.Errorf("view = %+v", v)
		}
	})
}

// What failed while the endpoint refused nearly all is due once it takes something, page by page, and keeps its step; what failed before
// that, or afterwards, is left alone.
func TestRecall(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		ids := b.crowdOf(450)
		b.own("d1")
		fail := func(want int) {
			var back []mailbox.Settlement
			for _, c := range b.exchange("d1", want).Claims {
				back = append(back, mailbox.Settlement{Claim: c, Result: mailbox.Failed, Delay: time.Hour, Step: true})
			}
			b.exchange("d1", 0, back...)
		}
		fail(10)
		b.pass(2 * time.Millisecond)
		since := b.view().Now
		for range 3 {
			fail(mailbox.MaxBatch)
		}
		b.finish("d1", mailbox.Closing{Probes: 5, Cooldown: time.Millisecond, Refusing: since})
		b.tell(ids[0], "suspend5 resume7")
		b.pass(2 * time.Millisecond)
		if x := b.own("d2"); !x.Refusing || x.Recall {
			b.Fatalf("begin = %+v", x)
		}
		c := b.exchange("d2", 1).Claims[0]
		if c.Tenant != ids[0] {
			b.Fatalf("claimed %s", c.Tenant)
		}
		if more, err := b.s.RecallFailed(b.Context(), testLife, "d2"); more || err != nil {
			b.Errorf("recalled before anything was taken: %v, %v", more, err)
		}
		b.exchange("d2", 0, ok(c))
		if more, err := b.s.RecallFailed(b.Context(), testLife, "d3"); more || err != nil {
			b.Errorf("recalled by a stranger: %v, %v", more, err)
		}
		b.finish("d2", mailbox.Closing{Force: true}) // and whoever comes next goes on
		if x := b.own("d3"); x.Refusing || !x.Recall || x.Probes != 0 {
			b.Fatalf("begin = %+v", x)
		}
		pages := 0
		for more := true; more; pages++ {
			var err error
			if more, err = b.s.RecallFailed(b.Context(), testLife, "d3"); err != nil {
				b.Fatal(err)
			}
		}
		if pages != 3 {
			b.Errorf("%d pages of 449 tenants", pages)
		}
		standings, err := b.s.ReadPairs(b.Context(), testApp, ids[:200])
		b.check(err)
		now := b.view().Now
		for i, st := range standings[1:] {
			recalled := !st.DueAt.After(now)
			if recalled != (i+1 >= 10) || st.Entries[tenant.SlotStatus].Steps != 1 {
				b.Errorf("%s: due %v, %d steps", st.Tenant, st.DueAt, st.Entries[tenant.SlotStatus].Steps)
			}
		}
		if x := b.own("d3"); x.Recall {
			b.Errorf("begin = %+v after all was recalled", x)
		}
	})
}

// An opening recalls what failed, and forgets what the endpoint refused before.
func TestAnOpeningRecalls(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(b *box){
		"Opened":  func(b *box) { b.open() },
		"OnAgain": func(b *box) { b.set(2, 1, false); b.set(3, 1, true) },
		"NewURL":  func(b *box) { b.set(3, 3, true) },
		"BySweep": func(b *box) { b.sweepSet(3, 3, true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				ids := b.crowdOf(3)
				b.set(1, 1, true)
				b.own("d1")
				var back []mailbox.Settlement
				for _, c := range b.exchange("d1", 3).Claims {
					back = append(back, mailbox.Settlement{Claim: c, Result: mailbox.Failed, Delay: time.Hour, Step: true})
				}
				b.exchange("d1", 0, back...)
				b.finish("d1", mailbox.Closing{Probes: 40, Cooldown: time.Hour, Refusing: b.view().Now})
				open(b)
				if x := b.own("d2"); x.Refusing || x.Recall || x.Probes != 1 || x.Openings != 0 {
					b.Errorf("begin = %+v", x)
				}
				if c := b.exchange("d2", 1).Claims; len(c) != 1 || c[0].Tenant != ids[0] || c[0].Entry.Steps != 1 {
					b.Errorf("claimed %+v", c)
				}
			})
		})
	}
}

// What no version writes is no recall, and is forgotten.
func TestAnUnreadableRecallIsForgotten(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", "1:2", "1:2:3:4", "-1:2:3", "1;2;3"} {
		each(t, mailbox.Settings{}, func(b *box) {
			b.crowdOf(1)
			b.own("d1")
			if err := b.rdb.HSet(b.Context(), b.key(keys.AppMailbox), "recall", text).Err(); err != nil {
				b.Fatal(err)
			}
			if more, err := b.s.RecallFailed(b.Context(), testLife, "d1"); more || err != nil {
				b.Errorf("%q: %v, %v", text, more, err)
			}
			if b.rdb.HExists(b.Context(), b.key(keys.AppMailbox), "recall").Val() {
				b.Errorf("%q is kept", text)
			}
		})
	}
}
