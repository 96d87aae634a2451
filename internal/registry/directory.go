package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// Entry is one app in a Directory. It is shared: readers MUST NOT alter it. A write to the app makes a new Entry. So the pointer
// can be the key for values that are derived from the entry, and Derived can hold such a value for as long as the entry exists.
type Entry struct {
	Rec AppRecord
	// Secrets is the zero value for an app that has none.
	Secrets WebhookSecrets
	// Derived is a value that a reader derived from the rest. A reader that finds it empty, or too old, stores a new one.
	Derived atomic.Value
}

// Directory is an in-process view of all apps and their webhook secrets, as of its last Refresh.
// Reading it costs no I/O. It is safe for concurrent use.
type Directory struct {
	store *Store
	view  atomic.Pointer[directoryView]
	// report is called with the apps that cannot be read; nil for no call.
	report func(ctx context.Context, unreadable error)
	now    func() time.Time

	mu sync.Mutex
	// reading: a goroutine is reading, and continues as long as callers wait.
	reading bool
	// next is the read that has not begun, nil if no caller waits for one.
	next *sharedRead
	// resets counts how often the settings were found to have lost writes.
	resets atomic.Int64
}

// sharedRead is one read of the settings, shared by all callers that came before it began.
type sharedRead struct {
	waiting int
	done    chan struct{}
	err     error // once done is closed
}

// readWithin bounds one read of the settings, including all pages of the first one.
const readWithin = 10 * time.Second

// retryUnread is how often an app that cannot be read is read again although it was not written.
const retryUnread = time.Minute

// directoryView is an immutable state of the directory.
type directoryView struct {
	revision int64
	apps     *appSet
	// unread are the apps whose last write cannot be read. They are not read again before retry, unless they are written.
	unread map[partner.ClientID]unreadApp
	retry  time.Time
}

// unreadApp is an app that cannot be read.
type unreadApp struct {
	err error
	// after is a revision before the app's last write.
	after int64
}

// NewDirectory returns an empty view of the store's apps; Refresh fills it.
func NewDirectory(store *Store) *Directory {
	d := &Directory{store: store, now: time.Now}
	d.view.Store(&directoryView{apps: &appSet{}})
	return d
}

// OnUnreadable sets a function that is called after each read that finds unreadable apps, with an error that names them. It must
// be called before the first Refresh.
func (d *Directory) OnUnreadable(f func(ctx context.Context, unreadable error)) { d.report = f }

// App returns one app.
func (d *Directory) App(id partner.ClientID) (*Entry, bool) { return d.view.Load().apps.findEntry(id) }

// Lookup returns one app, and the error that makes its last write unreadable, nil if there is none. An app that cannot be read is
// returned as it was before, or not at all.
func (d *Directory) Lookup(id partner.ClientID) (e *Entry, ok bool, unreadable error) {
	v := d.view.Load()
	e, ok = v.apps.findEntry(id)
	return e, ok, v.unread[id].err
}

// All lists every app by client id. Callers MUST NOT alter the slice.
func (d *Directory) All() []*Entry { return d.view.Load().apps.sorted }

// CountUnreadable counts the apps whose last write cannot be read.
func (d *Directory) CountUnreadable() int { return len(d.view.Load().unread) }

// Revision returns the revision of the settings in the view.
func (d *Directory) Revision() int64 { return d.view.Load().revision }

// CountResets counts how often a revision went back, or was not one that the settings assigned: Redis lost writes, or this
// process was suspended for very long.
func (d *Directory) CountResets() int64 { return d.resets.Load() }

// Refresh updates the view. It reads only the revision if nothing changed, otherwise the changes. If it fails, the old view
// stays. It returns when a read has ended that began after the call, or when ctx ends. All waiting callers share that read, so
// that none delays the others by a round trip. The read continues even if one of the callers has gone.
//
// An app that cannot be read is no failure: it stays as it was, Lookup returns its error, and the others are updated. It is read
// again when it is written, and once a minute.
func (d *Directory) Refresh(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("refresh the directory of apps: %w", context.Cause(ctx))
	}
	r := d.joinNextRead(ctx)
	select {
	case <-r.done:
		if r.err != nil {
			return fmt.Errorf("refresh the directory of apps: %w", r.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("refresh the directory of apps: %w", context.Cause(ctx))
	}
}

// joinNextRead returns the next read, and starts a goroutine for it if none is reading.
func (d *Directory) joinNextRead(ctx context.Context) *sharedRead {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next == nil {
		d.next = &sharedRead{done: make(chan struct{})}
	}
	d.next.waiting++
	if !d.reading {
		d.reading = true
		go d.serveReads(detachedContext{context.WithoutCancel(ctx)})
	}
	return d.next
}

// detachedContext is the context of a shared read: it does not end with any of the callers, and has no values of the one that
// started it.
type detachedContext struct{ context.Context }

// Value implements context.Context.
func (detachedContext) Value(any) any { return nil }

// serveReads makes one read after the other as long as callers wait.
func (d *Directory) serveReads(ctx context.Context) {
	for {
		d.mu.Lock()
		r := d.next
		d.next, d.reading = nil, r != nil
		d.mu.Unlock()
		if r == nil {
			return
		}
		call, cancel := context.WithTimeout(ctx, readWithin)
		r.err = d.updateView(call, d.now())
		cancel()
		close(r.done)
	}
}

func (d *Directory) updateView(ctx context.Context, now time.Time) error {
	old := d.view.Load()
	revision, err := d.store.Revision(ctx)
	if err != nil {
		return err
	}
	again := len(old.unread) > 0 && !now.Before(old.retry)
	if revision == old.revision && !again {
		return nil
	}
	next, found, err := d.buildView(ctx, old, revision, again)
	if err != nil {
		return err
	}
	if next.retry = old.retry; again || found != nil && len(old.unread) == 0 {
		next.retry = now.Add(retryUnread)
	}
	d.view.Store(next)
	if found != nil && d.report != nil {
		d.report(ctx, found)
	}
	return nil
}

// buildView makes the view that follows old, and returns the errors of apps that cannot be read. With again it also reads the
// unreadable apps of old, although they were not written. A revision that went back, or that was never assigned, means that Redis
// lost writes. Removals too old to be known mean that this process was suspended. In all these cases everything is read again.
func (d *Directory) buildView(ctx context.Context, old *directoryView, revision int64, again bool) (next *directoryView, found error, err error) {
	anew := revision < old.revision
	var delta delta
	if !anew {
		from := old.revision
		if again {
			for _, u := range old.unread {
				from = min(from, u.after)
			}
		}
		delta, err = d.store.readDelta(ctx, from, old.revision)
		anew = errors.Is(err, ErrTooOld)
	}
	if anew {
		delta, err = d.store.readDelta(ctx, 0, 0)
	}
	if err != nil {
		return nil, nil, err
	}
	base := old
	if anew {
		d.resets.Add(1)
		base = &directoryView{apps: &appSet{}}
	}
	next = &directoryView{revision: delta.revision, unread: maps.Clone(base.unread)}
	for _, id := range delta.removed {
		delete(next.unread, id)
	}
	entries := make([]*Entry, 0, len(delta.changed))
	var errs []error
	for _, a := range delta.changed {
		was, known := old.apps.findEntry(a.id)
		_, unread := next.unread[a.id]
		if known && !unread && !anew && a.lastRevision() == was.Rec.Revision {
			continue // unchanged; only read because an unreadable app was
		}
		e, err := d.decodeEntry(a)
		if err == nil {
			entries = append(entries, e)
			delete(next.unread, a.id)
			continue
		}
		errs = append(errs, err)
		if next.unread == nil {
			next.unread = map[partner.ClientID]unreadApp{}
		}
		next.unread[a.id] = unreadApp{err: err, after: max(a.lastRevision()-1, 0)}
		if known && anew {
			entries = append(entries, was)
		}
	}
	next.apps = base.apps.withChanges(entries, delta.removed)
	return next, errors.Join(errs...), nil
}

func (d *Directory) decodeEntry(a storedApp) (*Entry, error) {
	rec, err := decodeApp(a.id, a.doc, a.life)
	if err != nil {
		return nil, err
	}
	e := &Entry{Rec: rec}
	if a.sealed != "" {
		if e.Secrets, err = d.store.openSecrets(a.id, a.sealed); err != nil {
			return nil, err
		}
	}
	return e, nil
}
