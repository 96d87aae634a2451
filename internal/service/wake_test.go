package service_test

import (
	"net/http"
	"testing"

	"github.com/lamplighter/lamplighter/internal/queue"
)

// A process with both roles follows what it accepts itself: no task of a fan-out or a drain is enqueued
// besides, which would do the work again.
func TestNoTaskForWhatIsDoneHere(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.change("suspend", http.StatusNoContent, "delivered")
	r.change("resume", http.StatusNoContent, "delivered")
	for _, k := range []queue.Kind{queue.Drain, queue.Fanout} {
		tasks, err := r.rdb.Keys(t.Context(), "asynq:{*-"+string(k)+"}:t:*").Result()
		done, derr := r.rdb.Keys(t.Context(), "asynq:{*-"+string(k)+"}:processed").Result()
		if err != nil || derr != nil || len(tasks)+len(done) > 0 {
			t.Errorf("%s: tasks %v, processed %v, %v %v", k, tasks, done, err, derr)
		}
	}
}
