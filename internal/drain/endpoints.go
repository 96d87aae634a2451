package drain

import (
	"context"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Apps is the directory of apps; *registry.Directory is one.
type Apps interface {
	App(id partner.ClientID) (*registry.Entry, bool)
	Revision() int64
	Refresh(ctx context.Context) error
}

// Targets prepares attempts at an app's state-change endpoint by its settings.
type Targets interface {
	PrepareAttempt(e *registry.Entry, now time.Time) (attempt func(context.Context, delivery.Message) delivery.Result, err error)
}

// Switcher switches endpoints off on behalf of the service.
type Switcher interface {
	// SwitchOffUnlessChanged switches an endpoint off while unchanged holds for the app as it is stored. It returns the
	// revision of the write. An answer that asked for it is quoted in the mail.
	SwitchOffUnlessChanged(
		ctx context.Context, app partner.ClientID, k partner.EndpointKind, unchanged func(registry.AppRecord) bool, reason partner.OffReason, answer delivery.Result,
	) (revision int64, err error)
}

// DirectoryOptions configure an EndpointDirectory.
type DirectoryOptions struct {
	Apps     Apps
	Targets  Targets
	Switcher Switcher
	// Environment is the one that this deployment serves.
	Environment partner.Environment
}

// EndpointDirectory finds endpoints in the directory of apps. It is safe for concurrent use.
type EndpointDirectory struct{ opts DirectoryOptions }

// NewEndpointDirectory returns an EndpointDirectory.
func NewEndpointDirectory(opts DirectoryOptions) *EndpointDirectory {
	return &EndpointDirectory{opts: opts}
}

// Life implements Endpoints.
func (d *EndpointDirectory) Life(ctx context.Context, app partner.ClientID, anew bool) (mailbox.Life, bool, error) {
	entry, ok := d.opts.Apps.App(app)
	if !ok || anew {
		if err := d.refreshApps(ctx); err != nil {
			return mailbox.Life{}, false, err
		}
		entry, ok = d.opts.Apps.App(app)
	}
	if !ok {
		return mailbox.Life{}, false, nil
	}
	return lifeOf(entry.Rec), true, nil
}

// lifeOf returns the life that an app's settings belong to.
func lifeOf(rec registry.AppRecord) mailbox.Life {
	return mailbox.Life{App: rec.App.ClientID, Birth: rec.Birth}
}

// refreshApps reads the settings again.
func (d *EndpointDirectory) refreshApps(ctx context.Context) error {
	if err := d.opts.Apps.Refresh(ctx); err != nil {
		return fmt.Errorf("refresh apps: %w", err)
	}
	return nil
}

// Endpoint implements Endpoints.
func (d *EndpointDirectory) Endpoint(ctx context.Context, app partner.ClientID, revision int64) (Endpoint, bool, error) {
	if revision == 0 || d.opts.Apps.Revision() != revision {
		if err := d.refreshApps(ctx); err != nil {
			return Endpoint{}, false, err
		}
	}
	entry, ok := d.opts.Apps.App(app)
	if !ok || entry.Rec.App.Endpoints[partner.StateChange].EffectiveURL(d.opts.Environment) == "" {
		return Endpoint{}, false, nil
	}
	attempt, err := d.opts.Targets.PrepareAttempt(entry, time.Now())
	if err != nil {
		return Endpoint{}, false, err
	}
	return Endpoint{Life: lifeOf(entry.Rec), Revision: entry.Rec.EndpointRevision, Attempt: attempt}, true, nil
}

// SwitchOff implements Endpoints.
func (d *EndpointDirectory) SwitchOff(ctx context.Context, seen Endpoint, answer delivery.Result) (int64, error) {
	unchanged := func(rec registry.AppRecord) bool {
		return lifeOf(rec) == seen.Life && rec.EndpointRevision == seen.Revision
	}
	return d.opts.Switcher.SwitchOffUnlessChanged(ctx, seen.Life.App, partner.StateChange, unchanged, partner.OffGone, answer)
}
