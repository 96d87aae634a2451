package sweep

import (
	"context"

	"github.com/lamplighter/lamplighter/internal/loop"
	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// ConditionOf is appCondition.
func ConditionOf(v mailbox.View, t EndpointIncidents, on bool) string {
	return string(appCondition(v, t, on))
}

// Limits of the loops and of the series that name apps.
const (
	Batch         = batch
	ArmPage       = armPage
	MaxExceptions = maxExceptions
)

// Steps are the loops' steps by name.
func (s *Sweeper) Steps() map[string]func(ctx context.Context, cursor string) (loop.Report, error) {
	out := map[string]func(ctx context.Context, cursor string) (loop.Report, error){}
	for _, w := range s.listLoopSteps() {
		out[w.name] = w.step
	}
	return out
}

// Loops makes the loops that Run runs, by name.
func (s *Sweeper) Loops() map[string]*loop.Loop {
	out := map[string]*loop.Loop{}
	for _, w := range s.listLoopSteps() {
		out[w.name] = s.newLoop(w)
	}
	return out
}

// Export is one turn of what every process exports.
func (s *Sweeper) Export(ctx context.Context) error { return s.exportSummary(ctx) }
