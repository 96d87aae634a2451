package mailbox_test

import (
	"fmt"
	"testing"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func benchBox(b *testing.B) *box {
	b.Helper()
	rdb := redistest.Real(b)
	b.ReportAllocs()
	return &box{TB: b, rdb: rdb, keys: keys.New(""), s: mailbox.New(rdb, keys.New(""), mailbox.Settings{})}
}

// crowd approves n tenants and returns their records.
func crowd(b *box, n int) []tenant.Record {
	ts, recs := make([]tenant.ID, n), make([]tenant.Record, n)
	for i := range ts {
		ts[i] = tenant.ID(fmt.Sprintf("Cust%05d", i))
		recs[i] = story(ts[i], "suspend5")
	}
	b.approved(1, ts...)
	return recs
}

// next makes each record one change newer.
func next(recs []tenant.Record) {
	for i := range recs {
		recs[i].Top++
		recs[i].Heads[tenant.SlotStatus].Sequence = recs[i].Top
	}
}

func BenchmarkDeposit(b *testing.B) {
	for _, n := range []int{1, 100, mailbox.MaxBatch} {
		b.Run(fmt.Sprintf("tenants=%d", n), func(b *testing.B) {
			x := benchBox(b)
			recs := crowd(x, n)
			for b.Loop() {
				next(recs)
				x.deposit("n", recs...)
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "tenants/s")
		})
	}
}

func BenchmarkDepositOfRepeats(b *testing.B) {
	x := benchBox(b)
	recs := crowd(x, 100)
	for b.Loop() {
		x.deposit("n", recs...)
	}
}

func BenchmarkExchange(b *testing.B) {
	const batch = 32
	for name, settle := range map[string]func(mailbox.Claim) mailbox.Settlement{"Delivered": ok, "Released": release} {
		b.Run(name, func(b *testing.B) {
			x := benchBox(b)
			recs := crowd(x, mailbox.MaxBatch)
			x.deposit("n", recs...)
			x.own("d1")
			rs := make([]mailbox.Settlement, 0, batch)
			left := len(recs)
			for b.Loop() {
				claims := x.exchange("d1", batch, rs...).Claims
				rs = rs[:0]
				for _, c := range claims {
					rs = append(rs, settle(c))
				}
				if left -= len(claims); left < batch {
					b.StopTimer()
					x.exchange("d1", 0, rs...)
					rs = rs[:0]
					next(recs)
					x.deposit("n", recs...)
					left = len(recs)
					b.StartTimer()
				}
			}
			b.ReportMetric(batch*float64(b.N)/b.Elapsed().Seconds(), "results/s")
		})
	}
}

func BenchmarkBeginFinish(b *testing.B) {
	x := benchBox(b)
	for b.Loop() {
		x.own("d1")
		x.finish("d1", mailbox.Closing{})
	}
}

func BenchmarkBeat(b *testing.B) {
	x := benchBox(b)
	x.own("d1")
	for b.Loop() {
		x.beats("d1")
	}
}

func BenchmarkSweepOf200Apps(b *testing.B) {
	x := benchBox(b)
	sws := make([]mailbox.Switch, 200)
	for i := range sws {
		sws[i].Life = testLife
	}
	for b.Loop() {
		if _, errs := x.s.RepairWakeUps(b.Context(), "n", sws); errs[0] != nil {
			b.Fatal(errs[0])
		}
	}
}

func BenchmarkApproveDismiss(b *testing.B) {
	x := benchBox(b)
	for b.Loop() {
		x.approve("t1", 5)
		x.dismiss("t1")
	}
}

func BenchmarkView(b *testing.B) {
	x := benchBox(b)
	x.deposit("n", crowd(x, mailbox.MaxBatch)...)
	for b.Loop() {
		x.view()
	}
}
