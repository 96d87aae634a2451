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

// Store knows what changed when; *registry.Store is one.
type Store interface {
	// FeedRevision is the newest revision; seen is the highest ever read, for noticing lost writes.
	FeedRevision(ctx context.Context, seen int64) (int64, error)
	// FeedSince returns registry.ErrTooOld when the reader must start over.
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
	// Poll is how often the revision is read while somebody waits; DefaultPoll when 0.
	Poll time.Duration
	// Waiters is how many may wait at once; DefaultWaiters when 0.
	Waiters int
	Metrics *Metrics
	Log     *slog.Logger
}

const (
	// DefaultPoll leaves room for a read and an answer within the second in which engines are to know.
	DefaultPoll = 200 * time.Millisecond
	// DefaultWaiters bounds the memory that waiting connections hold.
	DefaultWaiters = 4096
	// makeWithin bounds the making of an answer, whoever waits for it.
	makeWithin = 10 * time.Second
	// pollWithin bounds one read of the revision.
	pollWithin = 2 * time.Second
	// answersMax bounds the deltas kept of one revision, each for another that somebody knew.
	answersMax = 256
)

var (
	// ErrUnknown reports a revision above all that were given out.
	ErrUnknown = errors.New("the revision is not known")
	// ErrBusy reports that as many wait as may.
	ErrBusy = errors.New("too many wait for changes")
)

// Answer is what an engine hears. Callers MUST NOT alter Body.
type Answer struct {
	Revision string
	Body     []byte
}

// Feed is safe for concurrent use.
type Feed struct {
	opts  Options
	rules string

	// pollNow asks the poller to look at once, stopping is closed when nobody may wait any more.
	pollNow  chan struct{}
	stopping chan struct{}
	stop     sync.Once

	mu sync.Mutex
	// revision is the highest that was read, changed is closed when a higher one is.
	revision int64
	changed  chan struct{}
	waiting  int
	// answers are those of revision, by the revision that the reader knew.
	answers map[int64]*sharedAnswer
}

// sharedAnswer is being made until done is closed.
type sharedAnswer struct {
	done chan struct{}
	Answer
	err error
}

// snapshot is the key of the answer to readers who know nothing.
const snapshot int64 = -1

// New returns a Feed. Run must run for Wait to hear of changes.
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

// Revision is the newest, as answers show it.
func (f *Feed) Revision(ctx context.Context) (string, error) {
	n, err := f.readRevision(ctx)
	return formatRevision(n, f.rules), err
}

// Snapshot tells all there is.
func (f *Feed) Snapshot(ctx context.Context) (Answer, error) {
	if _, err := f.readRevision(ctx); err != nil {
		return Answer{}, err
	}
	return f.findOrMakeAnswer(ctx, snapshot)
}

// ChangesSince tells what changed since a revision, everything when that is not known any more. When
// nothing has, it waits for a change, as long as it may; then it tells that there is none. Errors:
// ErrMalformed, ErrUnknown, ErrBusy.
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
		body, err := encodeDocument(document{Revision: formatRevision(now, f.rules), Apps: []app{}, Removed: []partner.ClientID{}})
		return Answer{Revision: formatRevision(now, f.rules), Body: body}, err
	}
	return f.findOrMakeAnswer(ctx, known)
}

// readRevision asks the store for the newest revision.
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

// noteRevision remembers a revision that was read, wakes those who wait for it, and returns the highest.
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

// findOrMakeAnswer makes or finds the answer to readers who know a revision. Whoever comes first makes it,
// for all: that one's leaving stops nobody's.
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

// composeAnswer reads who changed, then the directory, and writes the answer.
func (f *Feed) composeAnswer(ctx context.Context, known, now int64) (Answer, error) {
	d := document{Complete: known == snapshot, Removed: []partner.ClientID{}}
	var delta registry.FeedDelta
	if !d.Complete {
		var err error
		delta, err = f.opts.Store.FeedSince(ctx, known)
		if d.Complete = errors.Is(err, registry.ErrTooOld); err != nil && !d.Complete {
			return Answer{}, fmt.Errorf("feed: %w", err)
		}
		now = delta.Revision
	}
	if err := f.opts.Apps.Refresh(ctx); err != nil { // of an app that cannot be read engines hear what it was before
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
