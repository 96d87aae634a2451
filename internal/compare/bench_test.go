package compare_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// BenchmarkRound compares a million pairs that are in step, and prints what a slow and a fast round cost: how long
// each takes at its pace, the CPU of this process and of Redis, and the share of a core that is over that time. The pauses are not waited for. Run it with -benchtime 1x.
func BenchmarkRound(b *testing.B) {
	for _, row := range []struct{ apps, tenants int }{{1, 1_000_000}, {200, 5_000}, {2_000, 1}} {
		b.Run(fmt.Sprintf("apps=%d/tenants=%d", row.apps, row.tenants), func(b *testing.B) {
			rdb := redistest.Real(b)
			w := newWorld(b, rdb)
			fill(w, row.apps, row.tenants)
			pairs := float64(row.apps * row.tenants)
			for _, fast := range []bool{false, true} {
				b.Run(fmt.Sprintf("fast=%v", fast), func(b *testing.B) {
					for b.Loop() {
						own, server := ownCPU(b), serverCPU(w)
						took := w.paced(fast)
						own, server = ownCPU(b)-own, serverCPU(w)-server
						b.ReportMetric(took, "s/round")
						b.ReportMetric(100*(own+server)/took, "%core")
						b.ReportMetric(100*server/took, "%redis")
						b.ReportMetric(1e6*own/pairs, "own-µs/pair")
						b.ReportMetric(1e6*server/pairs, "redis-µs/pair")
					}
				})
			}
		})
	}
}

// paced runs one round at the default pace, and returns how many seconds it took: the world's clock alone waits.
func (w *world) paced(fast bool) float64 {
	w.Helper()
	w.slow = 0
	w.restart()
	if w.now = w.now.Add(time.Hour); fast { // and the pause between rounds is over
		ok[int64](w)(w.reg.RequestFastRound(w.Context()))
	} else {
		c := ok[registry.Comparison](w)(w.reg.Comparison(w.Context()))
		c.Indexed = w.now
		w.must(w.reg.SaveComparison(w.Context(), c))
	}
	took, closed := w.round()
	if len(closed) > 0 {
		w.Fatalf("a world in step had gaps: %v", closed)
	}
	return took.Seconds()
}

// fill makes apps, each approved by the same tenants, whose newest change is known everywhere.
func fill(w *world, apps, tenants int) {
	w.Helper()
	ctx := w.Context()
	names := make([]string, apps)
	for i := range names {
		names[i] = fmt.Sprintf("app%04d", i)
		w.app(partner.ClientID(names[i]), hook)
	}
	const seq = 1_700_000_000_000
	pipe := w.rdb.Pipeline()
	flush := func() {
		if _, err := pipe.Exec(ctx); err != nil {
			w.Fatal(err)
		}
	}
	for i := range tenants {
		id := tenant.ID(fmt.Sprintf("tenant%07d", i))
		change := fmt.Sprintf(`{"v":1,"i":"chg_%s_%d","t":2,"n":"24.1.0","f":"240100","a":%d}`, id, seq, seq)
		pipe.HSet(ctx, w.keys.Tenant(id, keys.TenantRecord), "v", "1", "top", seq, "state", "Running", "version", "24.1.0", "file", "240100",
			"updated", seq, "endpoint", "t.example.com", "status", strconv.Itoa(seq)+";"+change, "call", "ABCDEFGHIJKLMNOPQRSTUVWXYZ.0;"+strconv.Itoa(seq)+";1")
		pipe.ZAdd(ctx, w.keys.Tenant(id, keys.TenantChanges), redis.Z{Score: seq, Member: change})
		pipe.SAdd(ctx, w.keys.Tenant(id, keys.TenantApprovals), strings2any(names)...)
		for _, app := range names {
			pipe.HSet(ctx, w.keys.App(partner.ClientID(app), keys.AppTenants), string(id), seq)
		}
		if pipe.Len() > 2000 {
			flush()
		}
	}
	flush()
}

// ownCPU is the CPU time of this process, in seconds.
func ownCPU(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// serverCPU is the CPU time of Redis, in seconds.
func serverCPU(w *world) float64 {
	w.Helper()
	sum := 0.0
	for line := range strings.Lines(ok[string](w)(w.rdb.Info(context.WithoutCancel(w.Context()), "cpu").Result())) {
		for _, name := range []string{"used_cpu_user:", "used_cpu_sys:"} {
			if v, found := strings.CutPrefix(strings.TrimSpace(line), name); found {
				sum += ok[float64](w)(strconv.ParseFloat(v, 64))
			}
		}
	}
	return sum
}
