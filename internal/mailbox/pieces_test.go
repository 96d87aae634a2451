package mailbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// A deposit that one run of the script would take too long for is made in pieces, and tells of all of them.
func TestDepositInPieces(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		ids, recs := make([]tenant.ID, mailbox.MaxBatch), make([]tenant.Record, mailbox.MaxBatch)
		for i := range ids {
			ids[i] = tenant.ID(fmt.Sprint("t", i))
			recs[i] = story(ids[i], "suspend5 move6 backup_restored7")
		}
		b.approved(1, ids...)
		d := b.deposit("n", recs...)
		if d.Wake.IsNone() || d.Written != 600 || d.Replaced != 0 {
			b.Errorf("deposit = %+v", d)
		}
		if again := b.deposit("n", recs...); again.Wake.Generation != d.Wake.Generation || again.Written != 0 {
			b.Errorf("the repeat = %+v, of %+v", again, d)
		}
		for i := range recs {
			recs[i] = story(ids[i], "suspend8 move9 backup_restored10")
		}
		refs := make([]*tenant.Record, len(recs), len(recs)+1)
		for i := range recs {
			refs[i] = &recs[i]
		}
		many := []mailbox.Batch{{Life: testLife, Records: refs}, {Life: mailbox.Life{App: "app2"}, Records: append(refs, refs[0])}, {Life: testLife, Records: refs[:1]}}
		ds, errs := b.s.DepositMany(b.Context(), "m", many)
		if errs[0] != nil || ds[0].Written != 600 || ds[0].Replaced != 600 || errs[1] == nil || errs[2] != nil || ds[2].Written != 0 {
			b.Errorf("deposits = %+v, %v", ds, errs)
		}
		if v := b.view(); v.Waiting != 600 {
			b.Errorf("%d wait", v.Waiting)
		}
	})
}

// Many results and many claims are two runs of the script, which stand for one.
func TestExchangeInPieces(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		recs := crowd(b, mailbox.MaxBatch)
		b.deposit("n", recs...)
		b.own("d1")
		claims := b.exchange("d1", mailbox.MaxBatch).Claims
		next(recs)
		b.deposit("m", recs...)
		results := make([]mailbox.Settlement, len(claims))
		for i, c := range claims {
			results[i] = ok(c)
		}
		_, err := b.s.Exchange(b.Context(), b.life(), "nobody", mailbox.MaxBatch, results[:150])
		b.check(err)
		x := b.exchange("d1", mailbox.MaxBatch, results...)
		if !x.Owner || len(x.Claims) != mailbox.MaxBatch || x.Claims[0].Stamp <= claims[0].Stamp {
			b.Errorf("%d claims of stamp %v, owner %v", len(x.Claims), x.Claims[0].Stamp, x.Owner)
		}
		if x := b.exchange("nobody", mailbox.MaxBatch, results...); x.Owner || len(x.Claims) != 0 {
			b.Errorf("a stranger got %+v", x)
		}
	})
}

// A gate that the results open lets more than the probe through, though results and claims are two runs.
func TestExchangeInPiecesThatProves(t *testing.T) {
	t.Parallel()
	each(t, mailbox.Settings{}, func(b *box) {
		recs := crowd(b, mailbox.MaxBatch)
		b.deposit("n", recs...)
		b.own("d1")
		claims := b.exchange("d1", 30).Claims
		results := make([]mailbox.Settlement, len(claims))
		for i, c := range claims {
			results[i] = ok(c)
		}
		b.finish("d1", mailbox.Closing{Probes: 1, Cooldown: time.Millisecond, Force: true})
		b.pass(10 * time.Millisecond)
		if x := b.own("d2"); x.Probes == 0 {
			b.Errorf("begin = %+v", x)
		}
		if x := b.exchange("d2", mailbox.MaxBatch, results...); len(x.Claims) != mailbox.MaxBatch-30 {
			b.Errorf("%d claims", len(x.Claims))
		}
	})
}
