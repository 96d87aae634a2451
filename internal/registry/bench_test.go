package registry_test

import (
	"fmt"
	"sync/atomic"
	"testing"

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
