package drain_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// drainTasks keeps the wake-ups that are made tasks.
type drainTasks struct{ wakes []mailbox.Wake }

func (q *drainTasks) EnqueueDrain(_ context.Context, _ partner.ClientID, generation int64, delay time.Duration) error {
	q.wakes = append(q.wakes, mailbox.Wake{Generation: generation, Delay: delay})
	return nil
}

// A process that does not drain makes each wake-up a task, and none of a deposit without one.
func TestDispatchToTheQueue(t *testing.T) {
	t.Parallel()
	q := &drainTasks{}
	d := drain.NewDispatcher(q)
	wake := mailbox.Wake{Generation: 3, Delay: time.Second}
	for _, w := range []mailbox.Wake{{}, wake} {
		if err := d.Wake(t.Context(), app, w); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(q.wakes, []mailbox.Wake{wake}) {
		t.Errorf("tasks %v", q.wakes)
	}
}

// A process that drains makes no task of a wake-up that is due; a delayed one and those after a stop need one.
func TestDispatchHere(t *testing.T) {
	bubble(t, func(r *rig) {
		q := &drainTasks{}
		d := drain.NewDispatcher(q)
		d.DispatchTo(r.d)
		r.box.deposit("t1", tenant.Suspend)
		wake := r.box.sweep()
		if err := d.Wake(r.Context(), app, wake); err != nil {
			t.Fatal(err)
		}
		r.d.Wait()
		r.expect(1, 0)
		if len(q.wakes) > 0 {
			t.Errorf("tasks %v", q.wakes)
		}
		if err := r.d.Stop(r.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Wake(r.Context(), app, wake); err != nil || len(q.wakes) != 1 {
			t.Errorf("tasks after a stop: %v, %v", q.wakes, err)
		}
	})
}
