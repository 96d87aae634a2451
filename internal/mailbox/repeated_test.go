package mailbox_test

import (
	"testing"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// A fan-out may read one tenant twice, and a change may be accepted in between.
func TestOfATenantNamedTwiceTheNewestRecordCounts(t *testing.T) {
	t.Parallel()
	older, newer := story("t1", "suspend5"), story("t1", "resume7 move6")
	for name, recs := range map[string][]tenant.Record{"NewestLast": {older, newer, older}, "NewestFirst": {newer, older}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				if d := b.deposit("n", recs...); d.Written != 2 {
					b.Errorf("%d entries were written, want 2", d.Written)
				}
				b.expect("t1", "7 resume7 move6 due")
			})
		})
	}
}

// Of two results for one tenant in one exchange the acknowledgement prevails, whatever their order.
func TestAnAcknowledgementPrevailsOverAnotherResultOfItsExchange(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]int{"First": {0, 1}, "Last": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, mailbox.Settings{}, func(b *box) {
				b.approved(1, "t1")
				b.tell("t1", "suspend5")
				b.own("d1")
				c := b.claim("d1")
				both := []mailbox.Settlement{ok(c), failed(c, 0)}
				b.exchange("d1", 0, both[order[0]], both[order[1]])
				b.expect("t1", "5")
			})
		})
	}
}
