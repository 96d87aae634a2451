package drain_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// directory is a directory of one app at most: known now, next after a refresh.
type directory struct {
	known, next *registry.Entry
	revision    int64
	reads       int
	err         error
	// stored is the app as a switch-off reads it; off reports that it was switched off.
	stored registry.AppRecord
	off    bool
}

func (d *directory) App(partner.ClientID) (*registry.Entry, bool) { return d.known, d.known != nil }

func (d *directory) Revision() int64 { return d.revision }

func (d *directory) Refresh(context.Context) error {
	d.reads++
	if d.err == nil {
		d.known = d.next
	}
	return d.err
}

func (d *directory) PrepareAttempt(*registry.Entry, time.Time) (func(context.Context, delivery.Message) delivery.Result, error) {
	return func(context.Context, delivery.Message) delivery.Result { return delivery.Result{Status: 204} }, nil
}

func (d *directory) SwitchOffUnlessChanged(
	_ context.Context, _ partner.ClientID, _ partner.EndpointKind, unchanged func(registry.AppRecord) bool, reason partner.OffReason, _ delivery.Result,
) (int64, error) {
	d.off = unchanged(d.stored) && reason == partner.OffGone
	return 9, nil
}

// entry is an app of a birth, with the URL of its endpoint.
func entry(birth int64, url string) *registry.Entry {
	e := &registry.Entry{Rec: registry.AppRecord{App: partner.New(app), Birth: birth, EndpointRevision: 5}}
	e.Rec.App.Endpoints[partner.StateChange].URL = url
	return e
}

// TestLifeByTheSettings: the settings are read again for an unknown app, and on request.
func TestLifeByTheSettings(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for name, tt := range map[string]struct {
		d     directory
		anew  bool
		birth int64
		reads int
	}{
		"Known":    {directory{known: entry(1, ""), next: entry(2, "")}, false, 1, 0},
		"MadeAnew": {directory{known: entry(1, ""), next: entry(2, "")}, true, 2, 1},
		"New":      {directory{next: entry(2, "")}, false, 2, 1},
		"Deleted":  {directory{known: entry(1, "")}, true, 0, 1},
		"Unknown":  {directory{}, false, 0, 1},
		"Away":     {directory{err: away}, false, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			life, ok, err := drain.NewEndpointDirectory(drain.DirectoryOptions{Apps: &tt.d}).Life(t.Context(), app, tt.anew)
			if ok != (tt.birth != 0) || ok && life != (mailbox.Life{App: app, Birth: tt.birth}) || !errors.Is(err, tt.d.err) || tt.d.reads != tt.reads {
				t.Errorf("%+v, %t, %v after %d reads", life, ok, err, tt.d.reads)
			}
		})
	}
}

// TestEndpointByTheSettings: settings of another revision are read again, and an app without a URL has no endpoint.
func TestEndpointByTheSettings(t *testing.T) {
	t.Parallel()
	const url = "https://hook.example/"
	for name, tt := range map[string]struct {
		d        directory
		revision int64
		ok       bool
		reads    int
	}{
		"SameRevision":  {directory{known: entry(1, url), revision: 7}, 7, true, 0},
		"Newer":         {directory{next: entry(1, url), revision: 7}, 8, true, 1},
		"Unconditional": {directory{next: entry(1, url), revision: 7}, 0, true, 1},
		"NoURL":         {directory{known: entry(1, ""), revision: 7}, 7, false, 0},
		"Unknown":       {directory{revision: 7}, 7, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := drain.NewEndpointDirectory(drain.DirectoryOptions{Apps: &tt.d, Targets: &tt.d, Environment: partner.Online})
			e, ok, err := d.Endpoint(t.Context(), app, tt.revision)
			if err != nil || ok != tt.ok || tt.d.reads != tt.reads {
				t.Fatalf("%t, %v after %d reads", ok, err, tt.d.reads)
			}
			if ok && (e.Life.Birth != 1 || e.Revision != 5 || e.Attempt(t.Context(), delivery.Message{}).Status != 204) {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestSwitchOffOfWhatWasSeen: an endpoint that was changed since, or whose app was made anew, stays on.
func TestSwitchOffOfWhatWasSeen(t *testing.T) {
	t.Parallel()
	seen := drain.Endpoint{Life: mailbox.Life{App: app, Birth: 1}, Revision: 5}
	for name, tt := range map[string]struct {
		birth, revision int64
		off             bool
	}{"Unchanged": {1, 5, true}, "Changed": {1, 6, false}, "MadeAnew": {2, 5, false}} {
		d := &directory{stored: registry.AppRecord{App: partner.New(app), Birth: tt.birth, EndpointRevision: tt.revision}}
		revision, err := drain.NewEndpointDirectory(drain.DirectoryOptions{Switcher: d}).SwitchOff(t.Context(), seen, delivery.Result{})
		if err != nil || revision != 9 || d.off != tt.off {
			t.Errorf("%s: off %t, %d, %v", name, d.off, revision, err)
		}
	}
}
