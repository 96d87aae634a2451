package mailbox_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func TestView(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		if v := b.view(); v.Waiting != 0 || v.Oldest != 0 || v.Owned || v.CircuitState() != "closed" || v.Now.IsZero() {
			b.Errorf("view of nothing = %+v", v)
		}
		b.approved(1, "t1", "t2", "t3", "t4")
		b.tell("t1", "suspend5 move6")
		b.pass(30 * time.Millisecond)
		b.tell("t2", "suspend5")
		b.own("d1")
		b.claim("d1")
		v := b.view()
		if v.Waiting != 3 || v.Diverged != 2 || v.InFlight != 1 || v.Approvals != 4 || !v.Owned || v.Off {
			b.Errorf("view = %+v", v)
		}
		if v.Oldest < 30*time.Millisecond || v.Oldest > time.Minute {
			b.Errorf("the oldest waits %v, want what passed since t1's deposit", v.Oldest)
		}
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Minute, OffRevision: 2})
		if v = b.view(); !v.Off || v.Owned || !v.CooldownUntil.After(v.Now) || v.CircuitState() != "closed" {
			b.Errorf("view = %+v, breaker %s, want off and gated, and no open breaker", v, v.CircuitState())
		}
	})
}

// What is out for a tenant that was dismissed, or already told by another, is nobody's divergence.
func TestViewCountsWhatIsNotInStep(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2", "t3")
		for _, id := range []tenant.ID{"t1", "t2", "t3"} {
			b.tell(id, "suspend5")
		}
		b.own("d1")
		b.exchange("d1", 2)
		b.dismiss("t1")
		if v := b.view(); v.Waiting != 2 || v.Diverged != 2 || v.InFlight != 2 {
			b.Errorf("%d waiting, %d diverged, %d in flight, want 2 each", v.Waiting, v.Diverged, v.InFlight)
		}
	})
}

// Beyond the sample the oldest is an estimate, but what has been due longest is in it.
func TestViewOfManyTenants(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		ts := make([]tenant.ID, mailbox.MaxBatch)
		recs := make([]tenant.Record, len(ts))
		for i := range ts {
			ts[i] = tenant.ID(fmt.Sprintf("t%03d", i))
			recs[i] = story(ts[i], "suspend5")
		}
		b.approved(1, ts...)
		b.deposit("n1", recs[:1]...)
		b.pass(20 * time.Millisecond)
		b.deposit("n2", recs...)
		if v := b.view(); v.Waiting != mailbox.MaxBatch || v.Oldest < 20*time.Millisecond {
			b.Errorf("view = %+v", v)
		}
	})
}

// What has waited longest may be due last, in back-off: then a random sample finds it, most of the time.
func TestViewFindsTheOldestInBackOff(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		const crowd, age = 70, 50 * time.Millisecond // more than view looks at in any order
		recs := make([]tenant.Record, crowd)
		for i := range recs {
			id := tenant.ID(fmt.Sprintf("t%02d", i))
			b.approved(1, id)
			recs[i] = story(id, "suspend5")
		}
		b.deposit("first", recs[0])
		b.own("d1")
		b.exchange("d1", 0, failed(b.claim("d1"), time.Hour))
		b.pass(age)
		b.deposit("rest", recs[1:]...)
		for range 100 { // each misses it with a chance of 6 in 70
			if v := b.view(); v.Oldest >= age {
				return
			}
		}
		b.Error("the oldest entry was never seen")
	})
}

func TestInspectMany(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1")
		b.tell("t1", "suspend5")
		sts, err := b.s.ReadPairsOfTenant(b.Context(), "t1", []partner.ClientID{"app0", testApp})
		b.check(err)
		if len(sts) != 2 || sts[0].Approved || !sts[1].Approved || sts[1].Known != 5 || !sts[1].HasPending() || sts[0].HasPending() {
			b.Errorf("standings = %+v", sts)
		}
	})
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		want := make([]tenant.ID, 1500) // more than are listed by name
		for i := range want {
			want[i] = tenant.ID(fmt.Sprintf("t%04d", i))
		}
		b.approved(1, want[:500]...)
		b.approved(1, want[500:1000]...)
		b.approved(1, want[1000:]...)
		var got []tenant.ID
		for cursor := ""; ; {
			page, next, err := b.s.Approvals(b.Context(), testApp, cursor, 50)
			b.check(err)
			got = append(got, page...)
			if cursor = next; cursor == "" {
				break
			}
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			b.Errorf("%d approvals listed, want %d", len(got), len(want))
		}
		for tn, want := range map[tenant.ID]bool{"t0001": true, "nobody": false} {
			if is, err := b.s.HasApproved(b.Context(), testApp, tn); err != nil || is != want {
				b.Errorf("Approved(%s) = %v, %v", tn, is, err)
			}
		}
		if _, _, err := b.s.Approvals(b.Context(), testApp, "page two", 50); !errors.Is(err, mailbox.ErrCursor) {
			b.Errorf("error of a made-up cursor = %v", err)
		}
	})
}

// Few approvals come by name: no page exceeds its limit, and those that come and go while somebody
// pages move no other.
func TestFewApprovals(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		var want []tenant.ID
		for i := range 100 {
			want = append(want, tenant.ID(fmt.Sprintf("t%02d", i)))
		}
		b.approved(1, want...)
		var got []tenant.ID
		for cursor := ""; ; {
			page, next, err := b.s.Approvals(b.Context(), testApp, cursor, 7)
			b.check(err)
			if len(page) > 7 || len(page) < 7 && next != "" {
				b.Errorf("a page of %d", len(page))
			}
			if len(got) == 7 { // behind the list's back: one it has passed goes, one comes there
				_, err := b.s.Dismiss(b.Context(), testLife, []tenant.ID{"t00"})
				b.check(err)
				b.approved(1, "a")
			}
			got = append(got, page...)
			if cursor = next; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			b.Errorf("listed %v", got)
		}
	})
}

func TestSettingsDefault(t *testing.T) {
	t.Parallel()
	b := miniBox(t, mailbox.Settings{Grace: time.Second})
	want := mailbox.Settings{
		OwnerLease: mailbox.DefaultOwnerLease, EntryLease: mailbox.DefaultEntryLease, Horizon: mailbox.DefaultHorizon, Grace: time.Second,
	}
	if got := b.s.Settings(); got != want {
		t.Errorf("settings = %+v, want %+v", got, want)
	}
}

func TestInStepWith(t *testing.T) {
	t.Parallel()
	entry := func(seq int64) (e [tenant.Slots]*delivery.Entry) {
		e[tenant.SlotMove] = &delivery.Entry{Sequence: seq}
		return e
	}
	for name, row := range map[string]struct {
		st   mailbox.PairState
		want bool
	}{
		"Told":         {mailbox.PairState{Approved: true, Known: 7}, true},
		"ToldMore":     {mailbox.PairState{Approved: true, Known: 8}, true},
		"NotApproved":  {mailbox.PairState{Known: 7}, false},
		"NotDeposited": {mailbox.PairState{Approved: true, Known: 6}, false},
		"AskedAgain":   {mailbox.PairState{Approved: true, Known: 7, Again: true}, false},
		"Waits":        {mailbox.PairState{Approved: true, Known: 7, Entries: entry(7)}, false},
		"NewerWaits":   {mailbox.PairState{Approved: true, Known: 8, Entries: entry(8)}, false},
		"InFlight":     {mailbox.PairState{Approved: true, Known: 7, Entries: entry(7), InFlight: true}, false},
		"OldPostOut":   {mailbox.PairState{Approved: true, Known: 7, InFlight: true}, true}, // acknowledged, or of a former approval
	} {
		if got := row.st.IsInStepWith(7); got != row.want {
			t.Errorf("%s: in step %v", name, got)
		}
	}
}
