package registry_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

func BenchmarkAccept(b *testing.B) {
	for _, batch := range []int{1, 100, 1000} {
		for _, keyed := range []bool{false, true} {
			b.Run(fmt.Sprintf("batch=%d/keyed=%v", batch, keyed), func(b *testing.B) {
				s := newFixture(b, redistest.Real(b), registry.Options{})
				version := "Release_10.3.8_2024.08.30-01"
				var writers atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					own := writers.Add(1)
					reqs := make([]registry.ChangeRequest, batch)
					for n := 0; pb.Next(); {
						for i := range reqs {
							reqs[i] = registry.ChangeRequest{
								Tenant: tenant.ID(fmt.Sprint("Cust", n%5000)), Type: tenant.Suspend, VersionName: &version,
							}
							if keyed {
								reqs[i].IdempotencyKey, reqs[i].Line = fmt.Sprint("key", own, ".", n), i
							}
							n++
						}
						results, err := s.Accept(b.Context(), reqs)
						if err != nil || results[0].Err != nil {
							b.Error(err, results)
						}
					}
				})
				b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "changes/s")
			})
		}
	}
}

func BenchmarkStatus(b *testing.B) {
	s := newFixture(b, redistest.Real(b), registry.Options{})
	if _, err := s.Accept(b.Context(), []registry.ChangeRequest{{Tenant: "Cust1", Type: tenant.Suspend}}); err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Status(b.Context(), "Cust1"); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkTenants(b *testing.B) {
	s := newFixture(b, redistest.Real(b), registry.Options{})
	ids := make([]tenant.ID, 500)
	reqs := make([]registry.ChangeRequest, len(ids))
	for i := range ids {
		ids[i] = tenant.ID(fmt.Sprint("Cust", i))
		reqs[i] = registry.ChangeRequest{Tenant: ids[i], Type: tenant.Suspend}
	}
	if _, err := s.Accept(b.Context(), reqs); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Tenants(b.Context(), ids); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(ids))/b.Elapsed().Seconds(), "tenants/s")
}

// Scripts of outboxes and trays at their largest calls, beside 10,000 letters that are remembered.
func BenchmarkMailScripts(b *testing.B) {
	const remembered = 10_000
	rdb := redistest.Real(b)
	b.Run("outbox_due", func(b *testing.B) {
		s := registry.NewIncidentStore(rdb, incidentKeys, 0)
		for i := range 1000 {
			rdb.HSet(b.Context(), incidentKeys.App("app1", keys.AppOutbox), fmt.Sprint("mail", i), fmt.Sprintf("1;w;1;0;;0;;%01000d", i))
		}
		settled := make([]redis.Z, remembered)
		for i := range settled {
			settled[i] = redis.Z{Score: 1e14, Member: fmt.Sprint("settled", i)}
		}
		rdb.ZAdd(b.Context(), incidentKeys.App("app1", keys.AppSettled), settled...)
		for place := (registry.OutboxPlace{App: "app1"}); b.Loop(); {
			pages, errs := s.ReadOutboxPages(b.Context(), []registry.OutboxPlace{place})
			if errs[0] != nil {
				b.Fatal(errs[0])
			}
			place.Cursor = pages[0].Next
		}
	})
	b.Run("tray_settle", func(b *testing.B) {
		s := registry.NewMailQueueStore(rdb, keys.New("test"))
		fillTray(b, rdb, 1000, remembered)
		leave := make([]string, 200)
		for i := range leave {
			leave[i] = trayLetter(i).ID()
		}
		for b.Loop() {
			if _, _, err := s.SettleMailQueue(b.Context(), trayOwner, "x", registry.MailQueueSettlement{Leave: leave}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// One app of many is written between two looks of a process: as a partner does who changes his app all the time.
func BenchmarkRefresh(b *testing.B) {
	for _, changed := range []int{0, 1, 100} {
		b.Run(fmt.Sprintf("apps=10000/changed=%d", changed), func(b *testing.B) {
			s := newFixture(b, redistest.Real(b), registry.Options{})
			d := registry.NewDirectory(s.Store)
			for i := range 10_000 {
				put(b, s, testApp(fmt.Sprintf("0123456789abcdef0123456789%06d", i)))
			}
			if err := d.Refresh(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				b.StopTimer()
				for range changed {
					put(b, s, testApp(fmt.Sprintf("0123456789abcdef0123456789%06d", n%10_000)))
					n += 7
				}
				b.StartTimer()
				if err := d.Refresh(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
