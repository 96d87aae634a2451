package sweep

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/loop"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/registry"
)

const (
	// armPage is how many apps one step arms, armAtOnce how many batches of them are in progress at once.
	armPage   = 10 * batch
	armAtOnce = 5
	// wakesAtOnce is how many of a batch's wake-ups are enqueued at once.
	wakesAtOnce = 8
)

// armWakeUps is the step of the loop that arms wake-ups: those whose task or owner was lost, and those beyond the horizon. It
// runs independently of the other loops, and an app that fails does not delay the others.
func (s *Sweeper) armWakeUps(ctx context.Context, cursor string) (loop.Report, error) {
	var f faults
	s.refreshApps(ctx, &f)
	entries, next, last := s.appsAfter(cursor, armPage)
	batches := slices.Collect(slices.Chunk(entries, batch))
	forEachUntil(len(batches), armAtOnce, time.Time{}, func(i int) { s.armBatch(ctx, batches[i], &f) })
	return loop.Report{Next: next, End: last, Passed: f.own}, f.storeError()
}

func (s *Sweeper) armBatch(ctx context.Context, entries []*registry.Entry, f *faults) {
	switches := make([]mailbox.Switch, len(entries))
	for i, e := range entries {
		switches[i] = mailbox.Switch{
			Life: mailbox.Life{App: e.Rec.App.ClientID, Birth: e.Rec.Birth}, Revision: e.Rec.Revision, On: e.Rec.App.IsDelivering(s.opts.Environment),
			EndpointRevision: e.Rec.EndpointRevision,
		}
	}
	wakes, errs := s.opts.Mailboxes.RepairWakeUps(ctx, uuid.NewString(), switches)
	var armed []int
	for i, err := range errs {
		if f.addError(err); err == nil && !wakes[i].IsNone() {
			armed = append(armed, i)
		}
	}
	forEachUntil(len(armed), wakesAtOnce, time.Time{}, func(at int) {
		i := armed[at]
		f.addError(s.opts.Waker.Wake(ctx, switches[i].Life.App, wakes[i]))
	})
}
