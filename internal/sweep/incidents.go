package sweep

import (
	"context"
	"fmt"

	"github.com/lamplighter/lamplighter/internal/loop"
)

// ticksAtOnce is how many apps' incidents are handled at once.
const ticksAtOnce = 64

// advanceIncidents is the step of the loop that advances the incidents of the apps that have any.
func (s *Sweeper) advanceIncidents(ctx context.Context, cursor string) (loop.Report, error) {
	var f faults
	until := s.startUntil()
	s.refreshApps(ctx, &f)
	entries, next, last := s.appsAfter(cursor, page)
	ids := listClientIDs(entries)
	found, errs := s.opts.Incidents.ReadOpenIncidents(ctx, ids)
	var troubled []int
	for i, err := range errs {
		if f.addError(err); err == nil && found[i] != nil {
			troubled = append(troubled, i)
		}
	}
	ticked := forEachUntil(len(troubled), ticksAtOnce, until, func(at int) {
		i := troubled[at]
		if err := s.opts.Incidents.Tick(ctx, ids[i], *found[i]); err != nil {
			f.addError(fmt.Errorf("advance the incidents of app %s: %w", ids[i], err))
		}
	})
	if ticked < len(troubled) { // the time is up: the next step continues with this one
		next, last = string(ids[troubled[ticked-1]]), false
	}
	return loop.Report{Next: next, End: last, Passed: f.own}, f.storeError()
}
