package jobs_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// TestOf200ResyncsOneRuns: calls at once are answered with one job, and the next is taken a minute later.
func TestOf200ResyncsOneRuns(t *testing.T) {
	t.Parallel()
	rdb, space := redistest.Real(t), keys.New("test")
	boxes := mailbox.New(rdb, space, mailbox.Settings{})
	store := registry.New(rdb, registry.Options{Keys: space, Keyring: noKeys{}})
	rec := registry.AppRecord{App: partner.New("app1"), Revision: 5, Birth: 5}
	if _, err := boxes.ApplySwitch(t.Context(), "n", mailbox.Switch{Life: mailbox.Life{App: "app1", Birth: 5}, Revision: 5}); err != nil {
		t.Fatal(err)
	}
	made := &counted{Store: boxes}
	resyncer := jobs.NewResyncer(jobs.ResyncerOptions{Jobs: jobs.NewManager(store, made, boxes, nil, time.Now), Pauses: store})
	var mu sync.Mutex
	answers := map[string]int{}
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			job, _, err := resyncer.ResyncAll(t.Context(), rec, registry.Actor{Name: "evil", Role: "partner:app1"})
			mu.Lock()
			defer mu.Unlock()
			if _, soon := errors.AsType[*jobs.TooSoonError](err); soon { // before the first of them had made the job
				job, err = "too soon", nil
			}
			if err != nil {
				t.Error(err)
			}
			answers[job]++
		})
	}
	all.Wait()
	if delete(answers, "too soon"); len(answers) != 1 || made.n != 1 {
		t.Errorf("answered %v, made %d times", answers, made.n)
	}
}

// noKeys is for apps without secrets.
type noKeys struct{ registry.Sealer }

// counted counts how often a job is made or joined.
type counted struct {
	*mailbox.Store
	mu sync.Mutex
	n  int
}

func (c *counted) MakeDepositJob(ctx context.Context, life mailbox.Life, id mailbox.JobID, by, role string) (mailbox.JobID, int64, error) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	return c.Store.MakeDepositJob(ctx, life, id, by, role)
}
