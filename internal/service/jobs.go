package service

import (
	"context"

	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// buildJobs builds the workers of jobs, and the finder of unlisted jobs.
func (s *Service) buildJobs() {
	if !s.hasRole(RoleWorker) {
		return
	}
	p := &s.parts
	s.jobs = jobs.NewRunner(jobs.Options{
		Due: s.store, Claims: s.boxes, Page: p.approvals.AdvanceJob, StoreFault: storeFaultName, Metrics: jobs.NewMetrics(s.metrics), Log: s.log,
	})
	s.finder = jobs.NewFinder(jobs.FinderOptions{
		Leases: s.store, Removed: s.store, Lists: s.store, Apps: s.dir, Boxes: s.boxes,
		Deleted: func(ctx context.Context, id partner.ClientID, revision int64) error {
			_, err := p.propagator.AppDeleted(ctx, id, revision, registry.Actor{})
			return err
		},
		Log: s.log,
	})
}

// wakeJobs makes this process look for jobs at once, if it is a worker.
func (s *Service) wakeJobs() {
	if s.jobs != nil {
		s.jobs.Wake()
	}
}
