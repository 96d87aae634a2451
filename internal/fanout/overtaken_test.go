package fanout_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// However fast approvals of other tenants are taken back, those of these are taken at the first try.
func TestApprovalsBesideDismissalsOfOthers(t *testing.T) {
	t.Parallel()
	s := newShim(t, redistest.Real(t))
	s.app("app1", hook)
	life := s.life("app1")
	stop, sick := make(chan struct{}), make(chan error, 16)
	var taken atomic.Int64
	var others sync.WaitGroup
	began := time.Now()
	for i := range 16 { // each as fast as it can: far beyond 400 a second
		others.Go(func() {
			ts := []tenant.ID{tenant.ID(fmt.Sprint("other", i))}
			for {
				select {
				case <-stop:
					return
				default:
				}
				since, err := s.box.Dismissals(t.Context(), "app1")
				if err == nil {
					_, err = s.box.Approve(t.Context(), life, since, []mailbox.Admission{{Tenant: ts[0], Top: 5}})
				}
				n := 0
				if err == nil {
					n, err = s.box.Dismiss(t.Context(), life, ts)
				}
				if err != nil {
					sick <- err
					return
				}
				taken.Add(int64(n))
			}
		})
	}
	refused, longest := 0, time.Duration(0)
	for i := range 20 {
		ts := make([]mailbox.Admission, mailbox.MaxBatch)
		for j := range ts {
			ts[j] = mailbox.Admission{Tenant: tenant.ID(fmt.Sprintf("bulk%d-%d", i, j)), Top: 5}
		}
		start := time.Now()
		for before := taken.Load(); ; {
			since := ok[int64](t)(s.box.Dismissals(t.Context(), "app1"))
			for taken.Load() < before+40 && len(sick) == 0 { // others go on while the tops are read
				runtime.Gosched()
			}
			_, err := s.box.Approve(t.Context(), life, since, ts)
			if err == nil {
				break
			}
			if refused++; !errors.Is(err, mailbox.ErrDismissed) || refused > 100 {
				t.Fatal(err)
			}
		}
		longest = max(longest, time.Since(start))
	}
	close(stop)
	others.Wait()
	if len(sick) > 0 {
		t.Fatal(<-sick)
	}
	t.Logf("%.0f dismissals/s of others, %d approvals of 200: %d refused, the longest took %v", float64(taken.Load())/time.Since(began).Seconds(), 20, refused, longest)
	if refused > 0 || taken.Load() < 800 {
		t.Errorf("%d refused beside %d dismissals of others", refused, taken.Load())
	}
}
