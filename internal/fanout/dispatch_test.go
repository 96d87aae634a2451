package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// fanoutTasks keeps tasks as they are enqueued.
type fanoutTasks struct {
	ids     []string
	tenants []tenant.ID
	err     error
}

func (q *fanoutTasks) EnqueueFanout(_ context.Context, id string, ts []tenant.ID) error {
	q.ids, q.tenants = append(q.ids, id), append(q.tenants, ts...)
	return q.err
}

func someTenants(n int) []tenant.ID {
	out := make([]tenant.ID, n)
	for i := range out {
		out[i] = tenant.ID(fmt.Sprintf("t%04d", i))
	}
	return out
}

// TestTasksOfAFanout: many tenants make several tasks, whose names follow from the id.
func TestTasksOfAFanout(t *testing.T) {
	t.Parallel()
	q, ts := &fanoutTasks{}, someTenants(mailbox.MaxBatch+1)
	d := fanout.NewDispatcher(q, nil)
	if err := d.Notify(t.Context(), "id", ts); err != nil {
		t.Fatal(err)
	}
	last := ts[mailbox.MaxBatch]
	if !slices.Equal(q.ids, []string{"id", "id-" + string(last)}) || !slices.Equal(q.tenants, ts) {
		t.Errorf("tasks %v with %d tenants", q.ids, len(q.tenants))
	}
	for range 2 {
		if err := d.EnqueueTenants(t.Context(), ts[:1]); err != nil {
			t.Fatal(err)
		}
	}
	if slices.Sort(q.ids); len(slices.Compact(q.ids)) != 4 {
		t.Errorf("a name was used twice: %v", q.ids)
	}
	q.err = errors.New("away")
	if err := d.Notify(t.Context(), "id", ts); !errors.Is(err, q.err) {
		t.Errorf("a queue that is away: %v", err)
	}
}

// TestFanoutHereOrByATask: a runner takes what it has room for, the queue the rest.
func TestFanoutHereOrByATask(t *testing.T) {
	t.Parallel()
	q := &fanoutTasks{}
	idle := func(context.Context, []tenant.ID) error { return nil }
	d := fanout.NewDispatcher(q, fanout.NewRunner(idle, idle, slog.New(slog.DiscardHandler)))
	for range 1000 {
		if err := d.Notify(t.Context(), "id", []tenant.ID{"a"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(q.ids); n == 0 || n == 1000 {
		t.Errorf("%d of 1000 are tasks", n)
	}
}
