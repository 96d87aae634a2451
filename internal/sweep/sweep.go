package sweep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/loop"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Registry is the registry's side of the loops.
type Registry interface {
	loop.Store
	ListPendingFanouts(ctx context.Context, waited time.Duration, after registry.PendingFanout, limit int) ([]registry.PendingFanout, error)
	CountPendingFanouts(ctx context.Context, waited time.Duration) (int64, error)
	ReadTickets(ctx context.Context, ids []tenant.ID) ([]int64, error)
	ApproverCounts(ctx context.Context, ids []tenant.ID) ([]int64, error)
	SaveGauges(ctx context.Context, doc []byte, ttl time.Duration) error
	Gauges(ctx context.Context) ([]byte, error)
}

// Apps lists the apps as of the last refresh.
type Apps interface {
	Refresh(ctx context.Context) error
	All() []*registry.Entry
}

// Mailboxes is the mailboxes' side of the loops.
type Mailboxes interface {
	RepairWakeUps(ctx context.Context, nonce string, apps []mailbox.Switch) ([]mailbox.Wake, []error)
	Views(ctx context.Context, apps []partner.ClientID) ([]mailbox.View, []error)
}

// Waker turns a mailbox's wake-up into a task.
type Waker interface {
	Wake(ctx context.Context, app partner.ClientID, w mailbox.Wake) error
}

// Notifier starts the fan-out of tenants.
type Notifier interface {
	Notify(ctx context.Context, id string, ts []tenant.ID) error
}

// Repairer makes the tenants' index match the approvals, a bounded piece each time.
type Repairer interface {
	Repair(ctx context.Context) error
}

// Incidents advances incidents whose next step is due.
type Incidents interface {
	// ReadOpenIncidents reads what Tick must handle of each app, nil for nothing.
	ReadOpenIncidents(ctx context.Context, apps []partner.ClientID) ([]*registry.OpenIncidents, []error)
	// Tick handles what ReadOpenIncidents found of an app.
	Tick(ctx context.Context, app partner.ClientID, found registry.OpenIncidents) error
}

// Mails finds mails that wait, and wakes the mailer for them.
type Mails interface {
	// ReadMailQueues reads the mail queues of some recipients, from a place on.
	ReadMailQueues(ctx context.Context, after registry.MailQueuePlace) (MailQueuePage, error)
	WakeMailQueue(ctx context.Context, recipient string) error
	// HasOutboxMails reports which apps' outboxes hold mails.
	HasOutboxMails(ctx context.Context, apps []partner.ClientID) ([]bool, []error)
	ReadOutboxPages(ctx context.Context, places []registry.OutboxPlace) ([]registry.OutboxPage, []error)
	WakeMail(ctx context.Context, app partner.ClientID, mailID string) error
}

// MailQueuePage is a summary of some mail queues.
type MailQueuePage struct {
	// Mails counts what waits, Late is for how long the most overdue mail has been overdue.
	Mails int
	Late  time.Duration
	// Due are the recipients whose mail queue is due.
	Due []string
	// Next is where to continue; More is false behind the last mail queue.
	Next registry.MailQueuePlace
	More bool
}

// Options of a Sweeper.
type Options struct {
	Registry    Registry
	Apps        Apps
	Mailboxes   Mailboxes
	Waker       Waker
	Notifier    Notifier
	Repairer    Repairer
	Incidents   Incidents
	Mails       Mails
	Metrics     *Metrics
	Environment partner.Environment
	// Every is the pause between the rounds of a loop.
	Every time.Duration
	Log   *slog.Logger
}

const (
	// leaseRounds is for how many rounds a process keeps the lease without renewing it, and how long a step may take.
	leaseRounds = 3
	// startFor is the fraction of that time in which a step begins work, so that it can end what it began: one third.
	startFor = 3
	// batch is how many apps one round trip reads, page how many apps one step handles.
	batch = 200
	page  = 1000
	// staleRounds is for how many rounds the gauges are kept after the last one that wrote them.
	staleRounds = 12
)

// Sweeper runs the loops. New, then Run once.
type Sweeper struct {
	opts    Options
	holder  string
	fanouts fanoutBudget
	count   countRound
	// mails is what the last round of the loop mails found, in any process.
	mails atomic.Pointer[mailCount]
}

// New returns a Sweeper.
func New(opts Options) *Sweeper {
	s := &Sweeper{opts: opts, holder: uuid.NewString(), fanouts: fanoutBudget{most: pendingFirst}}
	s.mails.Store(&mailCount{})
	return s
}

// loopStep is one loop's name and step.
type loopStep struct {
	name string
	step func(ctx context.Context, cursor string) (loop.Report, error)
}

// listLoopSteps lists the loops. Earlier versions have one loop with the lease "sweep" that does all of it; beside this version
// the work is done twice.
func (s *Sweeper) listLoopSteps() []loopStep {
	return []loopStep{
		{"arm", s.armWakeUps}, {"owed", s.startPendingFanouts}, {"incidents", s.advanceIncidents}, {mailsLoop, s.wakeMails}, {"gauges", s.countAll}, {"index", s.repairIndex},
	}
}

func (s *Sweeper) newLoop(w loopStep) *loop.Loop {
	within := max(s.opts.Every*leaseRounds, time.Second)
	o := loop.Options{
		Name: w.name, Step: w.step, Every: s.opts.Every, Within: within, Lease: within,
		Store: s.opts.Registry, Holder: s.holder, Metrics: s.opts.Metrics.loopMetrics(), Log: s.opts.Log,
	}
	if w.name == mailsLoop {
		o.Seen = func(st registry.LoopState) { s.mails.Store(decodeMailCount(st.Note)) }
	}
	return loop.New(o)
}

// Run runs the loops, and exports what they count, until ctx ends; then it gives their leases back.
func (s *Sweeper) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, w := range s.listLoopSteps() {
		l := s.newLoop(w)
		all.Go(func() { l.Run(ctx) })
	}
	all.Go(func() { s.exportUntilDone(ctx) })
	all.Wait()
}

func (s *Sweeper) exportUntilDone(ctx context.Context) {
	tick := time.NewTicker(s.opts.Every)
	defer tick.Stop()
	for {
		if err := s.exportSummary(ctx); err != nil && ctx.Err() == nil {
			s.opts.Log.DebugContext(ctx, "the cluster's gauges stay as they are", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// exportSummary exports the cluster's state, whichever process counted it.
func (s *Sweeper) exportSummary(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(s.opts.Every, time.Second))
	defer cancel()
	doc, err := s.opts.Registry.Gauges(ctx)
	if err != nil {
		return fmt.Errorf("read the cluster's gauges: %w", err)
	}
	s.opts.Metrics.setSummary(doc)
	return nil
}

// repairIndex is the step of the loop index.
func (s *Sweeper) repairIndex(ctx context.Context, _ string) (loop.Report, error) {
	var f faults
	f.addError(s.opts.Repairer.Repair(ctx))
	return loop.Report{End: true, Passed: f.own}, f.storeError()
}

// appsAfter returns at most n apps behind the one that the cursor names, the cursor of the next ones, and whether these were the
// last.
func (s *Sweeper) appsAfter(cursor string, n int) (entries []*registry.Entry, next string, last bool) {
	all := s.opts.Apps.All()
	i, found := slices.BinarySearchFunc(all, cursor, func(e *registry.Entry, id string) int {
		return strings.Compare(string(e.Rec.App.ClientID), id)
	})
	if found {
		i++
	}
	entries = all[i:min(i+n, len(all))]
	if i+n >= len(all) {
		return entries, "", true
	}
	return entries, string(entries[n-1].Rec.App.ClientID), false
}

func listClientIDs(entries []*registry.Entry) []partner.ClientID {
	ids := make([]partner.ClientID, len(entries))
	for i, e := range entries {
		ids[i] = e.Rec.App.ClientID
	}
	return ids
}

// refreshApps reads the apps again. If that fails, the known ones are used.
func (s *Sweeper) refreshApps(ctx context.Context, f *faults) {
	ctx, cancel := context.WithTimeout(ctx, max(s.opts.Every, time.Second))
	defer cancel()
	if err := s.opts.Apps.Refresh(ctx); err != nil {
		f.addError(fmt.Errorf("refresh apps: %w", err))
	}
}

// faults collects errors, and separates those of single items from those of the store. It is safe for concurrent use.
type faults struct {
	mu         sync.Mutex
	own, store []error
}

func (f *faults) addError(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, registry.ErrUnreadable) || errors.Is(err, mailbox.ErrFormat) || errors.Is(err, mailbox.ErrGone) {
		f.own = append(f.own, err)
		return
	}
	f.store = append(f.store, err)
}

// shownFaults is how many of the store's faults one error names.
const shownFaults = 5

func (f *faults) storeError() error {
	if n := len(f.store); n > shownFaults {
		return errors.Join(append(f.store[:shownFaults:shownFaults], fmt.Errorf("and %d more", n-shownFaults))...)
	}
	return errors.Join(f.store...)
}

// forEachUntil calls do for n items in their order, atOnce of them concurrently. It begins none after until, except one per
// goroutine. It returns how many it did.
func forEachUntil(n, atOnce int, until time.Time, do func(i int)) int {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(atOnce, n) {
		all.Go(func() {
			for first := true; first || until.IsZero() || time.Now().Before(until); first = false {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				do(i)
			}
		})
	}
	all.Wait()
	return min(int(next.Load()), n)
}

// startUntil is the time after which a step begins nothing more.
func (s *Sweeper) startUntil() time.Time {
	return time.Now().Add(max(s.opts.Every*leaseRounds, time.Second) / startFor)
}
