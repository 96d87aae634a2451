package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Lists are the registry's lists of jobs.
type Lists interface {
	RegisterJobs(ctx context.Context, ids ...string) error
	ForgetJob(ctx context.Context, id string) error
	RemoveEndedJob(ctx context.Context, id string) error
	ListedJobs(ctx context.Context, before int64, limit int) ([]registry.ListedJob, error)
}

// DepositJobs make deposit jobs. The caller is answered once such a job is made, so the write must survive a failover.
type DepositJobs interface {
	MakeDepositJob(ctx context.Context, life mailbox.Life, id mailbox.JobID, by, role string) (made mailbox.JobID, approvals int64, err error)
}

// Mailboxes make the other jobs, and show and end all jobs.
type Mailboxes interface {
	EndLife(ctx context.Context, life mailbox.Life) error
	View(ctx context.Context, app partner.ClientID) (mailbox.View, error)
	MakeClearJob(ctx context.Context, life mailbox.Life, by, role string, always bool) (bool, error)
	Jobs(ctx context.Context, ids []mailbox.JobID) ([]mailbox.Job, error)
	OpenJobs(ctx context.Context, apps []partner.ClientID) ([][]mailbox.JobID, error)
	CancelJob(ctx context.Context, id mailbox.JobID) (mailbox.JobState, error)
}

// Manager makes, shows and cancels jobs. It is safe for concurrent use.
type Manager struct {
	lists    Lists
	tellings DepositJobs
	boxes    Mailboxes
	now      func() time.Time
	// made is called when a job is waiting for a runner; it must not block.
	made func()
}

// NewManager returns a Manager. made is called in the process that makes a job; nil for no call.
func NewManager(lists Lists, tellings DepositJobs, boxes Mailboxes, made func(), now func() time.Time) *Manager {
	if made == nil {
		made = func() {}
	}
	return &Manager{lists: lists, tellings: tellings, boxes: boxes, made: made, now: now}
}

// slowMaking is how long listing and making may take together. After a longer time the job is listed once more: its name may have
// been removed in between because no job had that name yet.
const slowMaking = time.Minute

// StartDepositJob starts a job that deposits the status of an app's tenants, or joins the running one, which then goes round once
// more. It returns the job and the number of approvals.
func (d *Manager) StartDepositJob(ctx context.Context, life mailbox.Life, kind mailbox.JobKind, by registry.Actor) (mailbox.JobID, int64, error) {
	start := d.now()
	id := mailbox.JobID{App: life.App, Kind: kind, Number: start.UnixMicro()}
	if err := d.lists.RegisterJobs(ctx, id.String()); err != nil {
		return id, 0, err
	}
	made, approvals, err := d.tellings.MakeDepositJob(ctx, life, id, by.Name, by.Role)
	if err != nil {
		return made, 0, err
	}
	var unlisted error
	if made != id {
		unlisted = d.lists.ForgetJob(ctx, id.String())
	}
	if made != id || d.now().Sub(start) > slowMaking {
		unlisted = errors.Join(unlisted, d.lists.RegisterJobs(ctx, made.String()))
	}
	d.made()
	return made, approvals, unlisted
}

// RunningJob returns the deposit job of a kind that runs for an app, if there is one.
func (d *Manager) RunningJob(ctx context.Context, life mailbox.Life, kind mailbox.JobKind) (mailbox.Job, bool, error) {
	open, err := d.boxes.OpenJobs(ctx, []partner.ClientID{life.App})
	if err != nil {
		return mailbox.Job{}, false, err
	}
	for _, id := range open[0] {
		if id.Kind != kind {
			continue
		}
		j, err := d.Job(ctx, id)
		switch {
		case errors.Is(err, registry.ErrNotFound):
		case err != nil:
			return mailbox.Job{}, false, err
		case j.State == mailbox.JobRunning && j.Created.UnixMilli() >= life.Birth: // else it is of a former life
			return j, true, nil
		}
	}
	return mailbox.Job{}, false, nil
}

// ClearApp ends the life of a deleted app, and makes a job that clears away after it. The birth of the life is the deletion's
// revision.
func (d *Manager) ClearApp(ctx context.Context, life mailbox.Life, by registry.Actor) (mailbox.JobID, error) {
	id := mailbox.ClearJobID(life)
	// The life ends even if its job cannot be listed; the Finder finds what is left then.
	listed := d.lists.RegisterJobs(ctx, id.String())
	// If the app was made again since, its new life has put the former one aside, under the new birth.
	if err := d.boxes.EndLife(ctx, life); err != nil && !errors.Is(err, mailbox.ErrGone) {
		return id, errors.Join(listed, err)
	}
	_, err := d.boxes.MakeClearJob(ctx, life, by.Name, by.Role, true)
	d.made()
	return id, errors.Join(listed, err)
}

// ClearFormerLives lists jobs that clear away after the former lives of an app.
func (d *Manager) ClearFormerLives(ctx context.Context, app partner.ClientID) error {
	v, err := d.boxes.View(ctx, app)
	if err != nil || len(v.Former) == 0 {
		return err
	}
	ids := make([]string, len(v.Former))
	for i, birth := range v.Former {
		ids[i] = mailbox.ClearJobID(mailbox.Life{App: app, Birth: birth}).String()
	}
	err = d.lists.RegisterJobs(ctx, ids...)
	d.made()
	return err
}

// Job reads a job. Errors: registry.ErrNotFound.
func (d *Manager) Job(ctx context.Context, id mailbox.JobID) (mailbox.Job, error) {
	js, err := d.boxes.Jobs(ctx, []mailbox.JobID{id})
	if err != nil {
		return mailbox.Job{}, err
	}
	if js[0].State == "" {
		return mailbox.Job{}, fmt.Errorf("job %s: %w", id, registry.ErrNotFound)
	}
	return js[0], nil
}

// ErrKept reports a job that cannot be cancelled, ErrOver a job that has ended.
var (
	ErrKept = errors.New("the job cannot be cancelled")
	ErrOver = errors.New("the job has ended")
)

// Cancel ends a job between two pages. What it wrote stays written. Cancel may be repeated. Errors: registry.ErrNotFound,
// ErrKept, ErrOver.
func (d *Manager) Cancel(ctx context.Context, id mailbox.JobID) error {
	if !id.Kind.IsCancellable() {
		if _, err := d.Job(ctx, id); err != nil {
			return err
		}
		return fmt.Errorf("job %s: %w", id, ErrKept)
	}
	state, err := d.boxes.CancelJob(ctx, id)
	switch {
	case err != nil:
		return err
	case state == "":
		return fmt.Errorf("job %s: %w", id, registry.ErrNotFound)
	case state != mailbox.JobCancelled:
		return fmt.Errorf("job %s is %s: %w", id, state, ErrOver)
	}
	return d.lists.RemoveEndedJob(ctx, id.String())
}

// Query selects jobs; its zero value is the first page of all.
type Query struct {
	// App selects jobs of one app, Kinds those of some kinds, State those in one state.
	App   partner.ClientID
	Kinds []mailbox.JobKind
	State mailbox.JobState
	// After is the `next` of the previous page.
	After string
	Limit int
}

func (q *Query) matchesID(id mailbox.JobID) bool {
	if q.App != "" && id.App != q.App {
		return false
	}
	return len(q.Kinds) == 0 || slices.Contains(q.Kinds, id.Kind)
}

// Bounds of one page of a list.
const (
	listPage = 500
	// readsMost is how many jobs are read for a page at most, seenMost how many names are examined: a page may hold fewer jobs
	// than Limit.
	readsMost = 2000
	seenMost  = 20 * listPage
)

// List lists jobs that run or ended recently, newest first. A page may be short, or empty, although there is a next one.
func (d *Manager) List(ctx context.Context, q Query) (out []mailbox.Job, next string, err error) {
	after := int64(0)
	if q.After != "" {
		if after, err = strconv.ParseInt(q.After, 10, 64); err != nil {
			return nil, "", mailbox.ErrCursor
		}
	}
	for reads, seen := 0, 0; reads < readsMost && seen < seenMost; {
		page, err := d.lists.ListedJobs(ctx, after, listPage)
		if err != nil {
			return nil, "", err
		}
		var ids []mailbox.JobID
		var at []int64
		for _, l := range page {
			id, err := mailbox.ParseJobID(l.ID)
			if err == nil && q.matchesID(id) { // else a newer version made it
				ids, at = append(ids, id), append(at, l.Listed)
			}
		}
		for len(ids) > 0 {
			n := min(len(ids), q.Limit)
			jobs, err := d.boxes.Jobs(ctx, ids[:n])
			if err != nil {
				return nil, "", err
			}
			for i, j := range jobs {
				if j.State == "" || q.State != "" && j.State != q.State {
					continue
				}
				if out = append(out, j); len(out) == q.Limit {
					return out, strconv.FormatInt(at[i], 10), nil
				}
			}
			reads += n
			ids, at = ids[n:], at[n:]
		}
		if len(page) < listPage {
			return out, "", nil
		}
		seen += len(page)
		after = page[len(page)-1].Listed
	}
	return out, strconv.FormatInt(after, 10), nil
}
