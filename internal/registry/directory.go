package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// Entry is one app as a Directory knows it. It is shared: readers MUST NOT alter it. A write to
// the app makes a new Entry, so the pointer serves as a key for what is derived from it.
type Entry struct {
	Rec AppRecord
	// Secrets is the zero value for an app that has none.
	Secrets WebhookSecrets
}

// Directory is an in-process view of all apps and their webhook secrets, as of its last Refresh.
// Reading it costs no I/O. It is safe for concurrent use.
type Directory struct {
	store *Store
	view  atomic.Pointer[view]
	// turn is held by the one Refresh that reads; the others wait and then look for themselves,
	// because what they want to see may have been written after the reader began.
	turn chan struct{}
	// resets counts how often the settings turned out to have lost writes.
	resets atomic.Int64
}

// view is an immutable state of the directory.
type view struct {
	revision int64
	apps     map[partner.ClientID]*Entry
	// sorted lists apps by client id.
	sorted []*Entry
}

// NewDirectory returns an empty view of the store's apps; Refresh fills it.
func NewDirectory(store *Store) *Directory {
	d := &Directory{store: store, turn: make(chan struct{}, 1)}
	d.view.Store(&view{})
	return d
}

// App returns one app.
func (d *Directory) App(id partner.ClientID) (*Entry, bool) {
	e, ok := d.view.Load().apps[id]
	return e, ok
}

// All lists every app by client id. Callers MUST NOT alter the slice.
func (d *Directory) All() []*Entry { return d.view.Load().sorted }

// Revision is that of the settings which the view shows.
func (d *Directory) Revision() int64 { return d.view.Load().revision }

// Resets counts how often a revision went back, or was none that the settings gave out: Redis lost writes, or this
// process slept for very long.
func (d *Directory) Resets() int64 { return d.resets.Load() }

// Refresh brings the view up to date: one read of the revision when nothing changed, else what
// changed since. When it fails the old view stays. Apps that cannot be read (ErrUnreadable) keep
// their old entry while all others are updated; such a Refresh fails until they can be read, and
// reads them again each time.
func (d *Directory) Refresh(ctx context.Context) error {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("refresh the directory of apps: %w", context.Cause(ctx))
	}
	defer func() { <-d.turn }()

	old := d.view.Load()
	revision, err := d.store.Revision(ctx)
	if err != nil {
		return fmt.Errorf("refresh the directory of apps: %w", err)
	}
	if revision == old.revision {
		return nil
	}
	next, err := d.next(ctx, old, revision)
	if next != nil {
		d.view.Store(next)
	}
	if err != nil {
		return fmt.Errorf("refresh the directory of apps: %w", err)
	}
	return nil
}

// next builds the view after old. A revision that went back, or that is not one that was given out,
// means that Redis lost writes; removals too old to be known mean that this process slept. All of
// them read everything anew.
func (d *Directory) next(ctx context.Context, old *view, revision int64) (*view, error) {
	anew := revision < old.revision
	since := old.revision
	if anew {
		since = 0
	}
	delta, err := d.store.delta(ctx, since)
	if errors.Is(err, ErrTooOld) {
		anew = true
		delta, err = d.store.delta(ctx, 0)
	}
	if err != nil {
		return nil, err
	}

	if anew {
		d.resets.Add(1)
	}
	apps := make(map[partner.ClientID]*Entry, len(old.apps)+len(delta.changed))
	if !anew {
		maps.Copy(apps, old.apps)
	}
	for _, id := range delta.removed {
		delete(apps, id)
	}
	reached := delta.revision
	var errs []error
	for _, a := range delta.changed {
		e, err := d.entry(a)
		if err != nil {
			errs = append(errs, err)
			reached = old.revision
			if was, ok := old.apps[a.id]; ok {
				apps[a.id] = was
			}
			continue
		}
		apps[a.id] = e
	}
	return newView(reached, apps), errors.Join(errs...)
}

func (d *Directory) entry(a storedApp) (*Entry, error) {
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

func newView(revision int64, apps map[partner.ClientID]*Entry) *view {
	sorted := slices.SortedFunc(maps.Values(apps), func(a, b *Entry) int {
		return strings.Compare(string(a.Rec.App.ClientID), string(b.Rec.App.ClientID))
	})
	return &view{revision: revision, apps: apps, sorted: sorted}
}
