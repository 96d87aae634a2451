package jobs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// DueList is the list of jobs that run.
type DueList interface {
	TakeDueJobs(ctx context.Context, limit int, next time.Duration) ([]string, error)
	RescheduleJob(ctx context.Context, id string, in time.Duration) error
	DropAbsentJob(ctx context.Context, id string, in time.Duration) error
	RemoveEndedJob(ctx context.Context, id string) error
	RunningJobs(ctx context.Context, skip, limit int) ([]registry.ListedJob, error)
}

// Claims are the mailboxes' side of claiming and ending jobs.
type Claims interface {
	ClaimJob(ctx context.Context, id mailbox.JobID, token string) (c mailbox.JobClaim, is mailbox.JobClaimState, wait time.Duration, err error)
	ReleaseJob(ctx context.Context, c mailbox.JobClaim) error
	FailJob(ctx context.Context, c mailbox.JobClaim, why mailbox.JobReason) (mailbox.JobState, time.Duration, error)
	EndJob(ctx context.Context, c mailbox.JobClaim, as mailbox.JobState, why mailbox.JobReason) error
	MakeClearJob(ctx context.Context, life mailbox.Life, by, role string, always bool) (bool, error)
	Jobs(ctx context.Context, ids []mailbox.JobID) ([]mailbox.Job, error)
}

// Options of a Runner.
type Options struct {
	Due    DueList
	Claims Claims
	// Page makes the next page of a claimed job, and reports whether the job has ended with it.
	Page func(ctx context.Context, c *mailbox.JobClaim) (ended bool, err error)
	// StoreFault names the store's fault in an error, empty for other errors.
	StoreFault func(error) string
	Metrics    *Metrics
	Log        *slog.Logger
	// AtOnce is how many jobs this process works on at once. Slice is how long it works on one before the next has its turn. Poll
	// is how often it looks for jobs. The zero values are the defaults.
	AtOnce      int
	Slice, Poll time.Duration
}

// The defaults of Options, and the times of the loop.
const (
	atOnce = 4
	slice  = 2 * time.Second
	poll   = time.Second
	// pageWithin bounds a page; it is far below mailbox.JobLease, so that the result can still be written.
	pageWithin = 10 * time.Second
	// settleWithin bounds every other write.
	settleWithin = 3 * time.Second
	// countEvery is how often the jobs that run are counted.
	countEvery = 15 * time.Second
)

// Runner makes pages of jobs. New, then Run once.
type Runner struct {
	opts  Options
	woken chan struct{}
	mu    sync.Mutex
	busy  int
}

// NewRunner returns a Runner.
func NewRunner(o Options) *Runner {
	if o.AtOnce <= 0 {
		o.AtOnce = atOnce
	}
	if o.Slice <= 0 {
		o.Slice = slice
	}
	if o.Poll <= 0 {
		o.Poll = poll
	}
	return &Runner{opts: o, woken: make(chan struct{}, 1)}
}

// Wake reports that there may be a job to do; it does not block.
func (r *Runner) Wake() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// Run works until ctx ends; the current pages are then finished, and their jobs released.
func (r *Runner) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	counted := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.woken:
		}
		if ctx.Err() != nil {
			return
		}
		if err := r.startDueJobs(ctx, &work); err != nil && ctx.Err() == nil {
			r.opts.Log.WarnContext(ctx, "search for due jobs failed; it is repeated soon", "err", err)
		}
		if now := time.Now(); now.Sub(counted) >= countEvery {
			counted = now
			if err := r.countJobs(ctx, now); err != nil && ctx.Err() == nil {
				r.opts.Log.WarnContext(ctx, "jobs not counted; the count is repeated soon", "err", err)
			}
		}
		timer.Reset(r.opts.Poll)
	}
}

// startDueJobs takes as many due jobs as this process has room for.
func (r *Runner) startDueJobs(ctx context.Context, work *sync.WaitGroup) error {
	r.mu.Lock()
	room := r.opts.AtOnce - r.busy
	r.mu.Unlock()
	if room <= 0 {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	ids, err := r.opts.Due.TakeDueJobs(bounded, room, mailbox.JobLease)
	for _, id := range ids {
		r.mu.Lock()
		r.busy++
		r.mu.Unlock()
		work.Go(func() {
			r.serveJob(ctx, id)
			r.mu.Lock()
			r.busy--
			r.mu.Unlock()
			r.Wake() // there is room for another
		})
	}
	return err
}

// serveJob handles one job: it claims it, and makes pages for a slice of time.
func (r *Runner) serveJob(ctx context.Context, name string) {
	id, err := mailbox.ParseJobID(name)
	if err != nil { // a newer version's job, which the workers of that version handle
		return
	}
	var c mailbox.JobClaim
	is := mailbox.JobBusy
	err = runWithTimeout(ctx, settleWithin, func(ctx context.Context) error {
		var wait time.Duration
		c, is, wait, err = r.opts.Claims.ClaimJob(ctx, id, uuid.NewString())
		switch {
		case err != nil:
			return err
		case is == mailbox.JobBusy:
			return r.opts.Due.RescheduleJob(ctx, name, wait)
		case is == mailbox.JobEnded:
			return r.opts.Due.RemoveEndedJob(ctx, name)
		case is == mailbox.JobAbsent:
			return r.resolveAbsentJob(ctx, id)
		}
		return nil
	})
	switch {
	case err != nil && ctx.Err() == nil:
		r.opts.Log.WarnContext(ctx, "job not handled; it is tried again soon", "job", name, "err", err)
	case err == nil && is == mailbox.JobTaken:
		r.makePages(ctx, &c)
	}
}

// resolveAbsentJob handles a listed job that does not exist. A clear job is made if there is something to clear away; any other
// is removed from the list in time.
func (r *Runner) resolveAbsentJob(ctx context.Context, id mailbox.JobID) error {
	if id.Kind == mailbox.JobClear {
		made, err := r.opts.Claims.MakeClearJob(ctx, mailbox.Life{App: id.App, Birth: id.Number}, "", "", false)
		if err != nil {
			return err
		}
		if made {
			return r.opts.Due.RescheduleJob(ctx, id.String(), 0)
		}
	}
	return r.opts.Due.DropAbsentJob(ctx, id.String(), r.opts.Poll)
}

// makePages makes pages of a claimed job until its slice or ctx ends.
func (r *Runner) makePages(ctx context.Context, c *mailbox.JobClaim) {
	for until := time.Now().Add(r.opts.Slice); ; {
		ended := false
		// A page that has begun is finished although ctx ends: the wake-ups that it arms must be enqueued.
		err := runWithTimeout(context.WithoutCancel(ctx), pageWithin, func(ctx context.Context) (err error) {
			ended, err = r.opts.Page(ctx, c)
			return err
		})
		if errors.Is(err, mailbox.ErrJobLost) {
			return // another runner has the claim, or the job was cancelled
		}
		r.opts.Metrics.countPage(c.ID.Kind, err == nil)
		if err == nil && !ended && ctx.Err() == nil && time.Now().Before(until) {
			continue
		}
		if err := runWithTimeout(context.WithoutCancel(ctx), settleWithin, func(ctx context.Context) error { return r.settleJob(ctx, *c, ended, err) }); err != nil {
			r.opts.Log.WarnContext(ctx, "job not released; its claim expires", "job", c.ID.String(), "err", err)
		}
		return
	}
}

// settleJob writes the state of a job whose slice is over.
func (r *Runner) settleJob(ctx context.Context, c mailbox.JobClaim, ended bool, failed error) error {
	name := c.ID.String()
	switch {
	case failed == nil && ended:
		r.opts.Metrics.countEnded(c.ID.Kind, mailbox.JobDone)
		return r.opts.Due.RemoveEndedJob(ctx, name)
	case failed == nil:
		return errors.Join(r.opts.Claims.ReleaseJob(ctx, c), r.opts.Due.RescheduleJob(ctx, name, 0))
	case errors.Is(failed, mailbox.ErrGone):
		if err := r.opts.Claims.EndJob(ctx, c, mailbox.JobCancelled, mailbox.AppGone); err != nil {
			return err
		}
		r.opts.Metrics.countEnded(c.ID.Kind, mailbox.JobCancelled)
		return r.opts.Due.RemoveEndedJob(ctx, name)
	}
	why := r.failureReason(failed)
	state, pause, err := r.opts.Claims.FailJob(ctx, c, why)
	r.opts.Log.WarnContext(ctx, "page of a job failed", "job", name, "reason", string(why), "retry_in_ms", pause.Milliseconds(), "err", failed)
	if err != nil {
		return err
	}
	if state == mailbox.JobFailed {
		r.opts.Metrics.countEnded(c.ID.Kind, mailbox.JobFailed)
		return r.opts.Due.RemoveEndedJob(ctx, name)
	}
	return r.opts.Due.RescheduleJob(ctx, name, pause)
}

// The store faults that have a reason of their own, as Options.StoreFault names them.
const (
	faultMemory   = "memory"
	faultReplicas = "replicas"
)

// failureReason returns the reason why a page failed.
func (r *Runner) failureReason(err error) mailbox.JobReason {
	switch fault := r.opts.StoreFault(err); {
	case fault == faultMemory:
		return mailbox.StoreFull
	case fault == faultReplicas:
		return mailbox.FewReplicas
	case fault != "", errors.Is(err, context.DeadlineExceeded):
		return mailbox.StoreAway
	case errors.Is(err, mailbox.ErrFormat), errors.Is(err, registry.ErrUnreadable):
		return mailbox.Unreadable
	default:
		return mailbox.Internal
	}
}

// Bounds of one count.
const (
	countPage = 500
	// countRead is how many of the jobs that are due soonest are read to find out whether they fail.
	countRead = 200
)

// countJobs exports how many jobs run, how many fail, and for how long the oldest one has run.
func (r *Runner) countJobs(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, pageWithin)
	defer cancel()
	n := Counts{Open: map[mailbox.JobKind]int{}, Failing: map[mailbox.JobKind]int{}}
	for skip := 0; ; skip += countPage {
		page, err := r.opts.Due.RunningJobs(ctx, skip, countPage)
		if err != nil {
			return err
		}
		var ids []mailbox.JobID
		for _, l := range page {
			id, err := mailbox.ParseJobID(l.ID)
			if err != nil {
				continue
			}
			ids = append(ids, id)
			n.Open[id.Kind]++
			if l.Listed > 0 {
				n.Oldest = max(n.Oldest, now.Sub(time.UnixMicro(l.Listed)))
			}
		}
		if skip == 0 {
			js, err := r.opts.Claims.Jobs(ctx, ids[:min(len(ids), countRead)])
			if err != nil {
				return err
			}
			for _, j := range js {
				if j.State == mailbox.JobRunning && j.Tries > 0 {
					n.Failing[j.ID.Kind]++
				}
			}
		}
		if len(page) < countPage {
			r.opts.Metrics.setCounts(n)
			return nil
		}
	}
}

func runWithTimeout(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}
