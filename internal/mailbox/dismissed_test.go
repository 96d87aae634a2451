package mailbox_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// noteDismissal counts that an approval was taken back, and whose.
func (o *oracle) noteDismissal(t tenant.ID) {
	o.dismissals++
	if len(o.dismissed) == 0 || slices.Max(slices.Collect(maps.Values(o.dismissed))) != o.dismissals-1 {
		o.dismissed = map[tenant.ID]int64{"": o.dismissals - 1}
	}
	o.dismissed[t] = o.dismissals
}

// overtaken reports whether the approval of t was, or may have been, taken back since a count.
func (o *oracle) overtaken(t tenant.ID, since int64) bool {
	if since == o.dismissals {
		return false
	}
	behind, noted := o.dismissed[""]
	if !noted || slices.Max(slices.Collect(maps.Values(o.dismissed))) != o.dismissals || since < behind || since > o.dismissals {
		return true
	}
	return o.dismissed[t] > since
}

// An approval is refused where one of its own tenants was dismissed since its count, and where nobody can tell.
func TestWhoIsRefusedAfterDismissals(t *testing.T) {
	t.Parallel()
	others := func(n int) []tenant.ID {
		ts := make([]tenant.ID, n)
		for i := range ts {
			ts[i] = tenant.ID(fmt.Sprint("other", i))
		}
		return ts
	}
	older := func(b *box) { // what a version does that only counts
		b.check(b.rdb.HIncrBy(b.Context(), b.key(keys.AppMailbox), "dismissals", 1).Err())
	}
	for name, row := range map[string]struct {
		before, since func(b *box)
		refused       bool
	}{
		"Nobody":                    {since: func(*box) {}},
		"Another":                   {since: func(b *box) { b.dismiss("t1") }},
		"ManyOthers":                {since: func(b *box) { b.dismiss("t1"); b.dismiss("t2", "t3"); b.dismiss("t4") }},
		"OneOfItsOwn":               {since: func(b *box) { b.dismiss("n1") }, refused: true},
		"ItsOwnAmongOthers":         {since: func(b *box) { b.dismiss("t1", "n2", "t2") }, refused: true},
		"ItsOwnAndThenOthers":       {since: func(b *box) { b.dismiss("n1"); b.dismiss("t1"); b.dismiss("t2") }, refused: true},
		"ItsOwnBefore":              {before: func(b *box) { b.dismiss("n1") }, since: func(b *box) { b.dismiss("t1") }},
		"ItsOwnBeforeAndSince":      {before: func(b *box) { b.dismiss("n1") }, since: func(b *box) { b.approve("n1", 5); b.dismiss("n1") }, refused: true},
		"WhoHadNoApproval":          {since: func(b *box) { b.dismiss("n3") }},
		"ByAnOlderVersion":          {since: older, refused: true},
		"ByAnOlderVersionAndOthers": {since: func(b *box) { older(b); b.dismiss("t1") }, refused: true},
		"OthersAndByAnOlderVersion": {since: func(b *box) { b.dismiss("t1"); older(b) }, refused: true},
		"AfterAnOlderVersion":       {before: older, since: func(b *box) { b.dismiss("t1") }},
		"BetweenOlderVersions":      {before: func(b *box) { b.dismiss("t1") }, since: func(b *box) { older(b); b.dismiss("t2"); older(b) }, refused: true},
		"Forgotten": {since: func(b *box) {
			b.dismiss("t1")
			b.check(b.rdb.Del(b.Context(), b.key(keys.AppDismissed)).Err())
			b.dismiss("t2")
		}, refused: true},
		"OfAFormerLife": {since: func(b *box) { b.died(9); b.birth = 10; b.own("d1") }, refused: true},
		"OfAFormerLifeAndOthers": {since: func(b *box) {
			b.died(9)
			b.birth = 10
			b.own("d1")
			b.approve("t1", 5)
			b.dismiss("t1")
		}, refused: true},
		"Undone": {before: func(b *box) { b.dismiss("t1"); b.dismiss("t2") }, since: func(b *box) { // a failover
			b.check(b.rdb.HSet(b.Context(), b.key(keys.AppMailbox), "dismissals", 1).Err())
			b.check(b.rdb.ZRem(b.Context(), b.key(keys.AppDismissed), "t2").Err())
		}, refused: true},
		"TheSameOthersAgainAndAgain": {since: func(b *box) {
			for range 11 { // of 200: more than are kept
				b.approved(1, others(mailbox.MaxBatch)...)
				b.dismiss(others(mailbox.MaxBatch)...)
			}
		}},
		"MoreThanAreKept": {since: func(b *box) {
			for i := range 11 {
				ts := others(mailbox.MaxBatch)
				for j := range ts {
					ts[j] += tenant.ID(fmt.Sprint("-", i))
				}
				b.approved(1, ts...)
				b.dismiss(ts...)
			}
			if n := b.rdb.ZCard(b.Context(), b.key(keys.AppDismissed)).Val(); n > 2001 || n < 1801 {
				b.Errorf("%d dismissed tenants are kept", n)
			}
		}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1", "t2", "t3", "t4", "n1", "n2")
				if row.before != nil {
					row.before(b)
				}
				since := b.dismissals()
				row.since(b)
				ts := []mailbox.Admission{{Tenant: "n1", Top: 5}, {Tenant: "n2", Top: 5}, {Tenant: "n3", Top: 5}}
				if !row.refused { // all three are new
					b.check(b.rdb.HDel(b.Context(), b.key(keys.AppTenants), "n1", "n2").Err())
				}
				_, err := b.s.Approve(b.Context(), b.life(), since, ts)
				if errors.Is(err, mailbox.ErrDismissed) != row.refused || err != nil && !row.refused {
					b.Errorf("approve = %v, want refused: %v", err, row.refused)
				}
				if has := b.rdb.HExists(b.Context(), b.key(keys.AppTenants), "n3").Val(); has == row.refused {
					b.Errorf("n3 is approved: %v", has)
				}
				if ttl := b.rdb.TTL(b.Context(), b.key(keys.AppDismissed)).Val(); ttl == -1 {
					b.Error("who was dismissed is kept for ever")
				}
				if _, err := b.s.Approve(b.Context(), b.life(), b.dismissals(), ts); err != nil {
					b.Errorf("with the new count: %v", err)
				}
			})
		})
	}
}

// What is no number in the place of who was dismissed, or of another type, admits nobody that it should not.
func TestUnreadableDismissed(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		b.approved(1, "t1", "t2")
		b.check(b.rdb.HSet(b.Context(), b.key(keys.AppMailbox), "dismissals", "x").Err())
		b.dismiss("t1")
		if got := b.field("dismissals"); got != "1" {
			b.Errorf("dismissals %q", got)
		}
		for _, since := range []int64{0, 2, 1 << 40} {
			_, err := b.s.Approve(b.Context(), b.life(), since, []mailbox.Admission{{Tenant: "t1", Top: 5}})
			if !errors.Is(err, mailbox.ErrDismissed) {
				b.Errorf("approve since %s: %v", strconv.FormatInt(since, 10), err)
			}
		}
	})
}
