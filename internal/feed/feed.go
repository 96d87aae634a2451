package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Store knows which app changed at which revision; *registry.Store is one.
type Store interface {
	// FeedRevision is the newest revision; seen is the highest one ever read, to detect lost writes.
	FeedRevision(ctx context.Context, seen int64) (int64, error)
	// FeedSince returns registry.ErrTooOld when the reader must start from a snapshot.
	FeedSince(ctx context.Context, after int64) (registry.FeedDelta, error)
}

// Apps is a view of all apps; *registry.Directory is one.
type Apps interface {
	Refresh(ctx context.Context) error
	App(id partner.ClientID) (*registry.Entry, bool)
	All() []*registry.Entry
}

// Options of a Feed.
type Options struct {
	Store       Store
	Apps        Apps
	Environment partner.Environment
	Licences    partner.Requirements
	// Poll is how often the revision is read while a reader waits; DefaultPoll when 0.
	Poll time.Duration
	// Waiters is how many readers may wait at once; DefaultWaiters when 0.
	Waiters int
	Metrics *Metrics
	Log     *slog.Logger
}

const (
	// DefaultPoll leaves room for a read and an answer within one second, the limit for engines.
	DefaultPoll = 200 * time.Millisecond
	// DefaultWaiters limits the memory of waiting connections.
	DefaultWaiters = 4096
	// makeWithin bounds the making of an answer.
	makeWithin = 10 * time.Second
	// pollWithin bounds one read of the revision.
	pollWithin = 2 * time.Second
	// answersMax limits the answers that are kept for one revision, one for each revision that readers know.
	answersMax = 256
)

var (
	// ErrUnknown reports a revision that was not issued yet.
	ErrUnknown = errors.New("the revision is not known")
	// ErrBusy reports that Waiters readers wait already.
	ErrBusy = errors.New("too many wait for changes")
)

// Answer is an answer to engines. Callers MUST NOT alter Body.
type Answer struct {
	Revision string
	Body     []byte
}

// Feed is safe for concurrent use.
type Feed struct {
	opts  Options
	rules string

	// pollNow asks the poller to read the revision at once. stopping is closed when readers may not wait any more.
	pollNow  chan struct{}
	stopping chan struct{}
	stop     sync.Once

	mu sync.Mutex
	// revision is the highest one read; changed is closed when a higher one is read.
	revision int64
	changed  chan struct{}
	waiting  int
	// answers are the answers at revision, by the revision that the reader knows.
	answers map[int64]*sharedAnswer
}

// sharedAnswer is in the making until done is closed.
type sharedAnswer struct {
	done chan struct{}
	Answer
	err error
}

// snapshot is the key of the answer for readers without a revision.
const snapshot int64 = -1

// New returns a Feed. Waiting readers notice changes only while Run runs.
func New(opts Options) *Feed {
	if opts.Poll <= 0 {
		opts.Poll = DefaultPoll
	}
	if opts.Waiters <= 0 {
		opts.Waiters = DefaultWaiters
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Feed{
		opts: opts, rules: markRules(opts.Licences), pollNow: make(chan struct{}, 1), stopping: make(chan struct{}),
		changed: make(chan struct{}), answers: map[int64]*sharedAnswer{},
	}
}

// Revision is the newest revision in the format of answers.
func (f *Feed) Revision(ctx context.Context) (string, error) {
	n, err := f.readRevision(ctx)
	return formatRevision(n, f.rules), err
}

// Snapshot returns all apps.
func (f *Feed) Snapshot(ctx context.Context) (Answer, error) {
	if _, err := f.readRevision(ctx); err != nil {
		return Answer{}, err
	}
	return f.findOrMakeAnswer(ctx, snapshot)
}

// ChangesSince returns what changed since a revision, or everything when that revision is too old. When nothing has
// changed, it waits for a change, at most wait; then it answers that nothing changed. Errors: ErrMalformed,
// ErrUnknown, ErrBusy.
func (f *Feed) ChangesSince(ctx context.Context, after string, wait time.Duration) (Answer, error) {
	known, mark, err := parseRevision(after)
	if err != nil {
		return Answer{}, err
	}
	now, err := f.readRevision(ctx)
	switch {
	case err != nil:
		return Answer{}, err
	case known > now:
		return Answer{}, ErrUnknown
	case mark != f.rules:
		return f.findOrMakeAnswer(ctx, snapshot)
	}
	if known == now && wait > 0 {
		if now, err = f.awaitRevision(ctx, known, wait); err != nil {
			return Answer{}, err
		}
	}
	if known == now {
		f.opts.Metrics.countAnswer(answeredNothing)
		body, err := encodeDocument(Document{Revision: formatRevision(now, f.rules), Apps: []app{}, Removed: []partner.ClientID{}})
		return Answer{Revision: formatRevision(now, f.rules), Body: body}, err
	}
	return f.findOrMakeAnswer(ctx, known)
}

// readRevision reads the newest revision from the store.
func (f *Feed) readRevision(ctx context.Context) (int64, error) {
	f.mu.Lock()
	seen := f.revision
	f.mu.Unlock()
	n, err := f.opts.Store.FeedRevision(ctx, seen)
	if err != nil {
		return 0, fmt.Errorf("feed: %w", err)
	}
	return f.noteRevision(n), nil
}

// noteRevision stores a revision that was read, wakes the readers that wait for it, and returns the highest.
func (f *Feed) noteRevision(n int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n > f.revision {
		f.revision = n
		f.answers = map[int64]*sharedAnswer{}
		close(f.changed)
		f.changed = make(chan struct{})
	}
	return f.revision
}

// findOrMakeAnswer finds or makes the answer for readers that know a revision. The first reader starts the making for
// all; it continues when that reader leaves.
func (f *Feed) findOrMakeAnswer(ctx context.Context, known int64) (Answer, error) {
	f.mu.Lock()
	a, made := f.answers[known]
	if !made {
		a = &sharedAnswer{done: make(chan struct{})}
		if len(f.answers) < answersMax || known == snapshot {
			f.answers[known] = a
		}
		now := f.revision
		f.mu.Unlock()
		f.makeAnswer(context.WithoutCancel(ctx), a, known, now)
	} else {
		f.mu.Unlock()
	}
	select {
	case <-a.done:
		if a.err == nil {
			f.opts.Metrics.countAnswer(answerKind(known))
		}
		return a.Answer, a.err
	case <-ctx.Done():
		return Answer{}, fmt.Errorf("feed: %w", context.Cause(ctx))
	}
}

func (f *Feed) makeAnswer(ctx context.Context, a *sharedAnswer, known, now int64) {
	ctx, cancel := context.WithTimeout(ctx, makeWithin)
	defer cancel()
	defer close(a.done)
	if a.Answer, a.err = f.composeAnswer(ctx, known, now); a.err != nil {
		f.mu.Lock()
		if f.answers[known] == a {
			delete(f.answers, known)
		}
		f.mu.Unlock()
	}
}

// composeAnswer reads which apps changed, then the directory, and encodes the answer.
func (f *Feed) composeAnswer(ctx context.Context, known, now int64) (Answer, error) {
	d := Document{Complete: known == snapshot, Removed: []partner.ClientID{}}
	var delta registry.FeedDelta
	if !d.Complete {
		var err error
		delta, err = f.opts.Store.FeedSince(ctx, known)
		if d.Complete = errors.Is(err, registry.ErrTooOld); err != nil && !d.Complete {
			return Answer{}, fmt.Errorf("feed: %w", err)
		}
		now = delta.Revision
	}
	if err := f.opts.Apps.Refresh(ctx); err != nil { // for an app that cannot be read, engines get its former settings
		return Answer{}, fmt.Errorf("feed: %w", err)
	}
	if d.Complete {
		d.Apps = f.viewAllApps()
	} else {
		d.Apps, d.Removed = f.viewChangedApps(delta.Changed, delta.Removed)
	}
	d.Revision = formatRevision(now, f.rules)
	body, err := encodeDocument(d)
	return Answer{Revision: d.Revision, Body: body}, err
}
