package apps

import (
	"context"
	"errors"
	"fmt"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// errChanged reports a switch-off of an endpoint that was changed meanwhile.
var errChanged = errors.New("it was changed, switched or deleted meanwhile")

// SwitchOffUnlessChanged switches an endpoint off on behalf of the service, unless unchanged says that the endpoint was
// changed since it was judged. Other settings may have changed. An answer that asked for it is quoted in the mail. It
// returns the revision of the switch-off.
func (w *Writer) SwitchOffUnlessChanged(
	ctx context.Context, app partner.ClientID, k partner.EndpointKind, unchanged func(registry.AppRecord) bool, reason partner.OffReason, answer delivery.Result,
) (revision int64, err error) {
	var old *registry.AppRecord
	var written registry.AppRecord
	err = w.update(ctx, app, nil, func(stored *registry.AppRecord) (err error) {
		if stored == nil {
			return noApp(app)
		}
		if !unchanged(*stored) {
			return errChanged
		}
		old = stored
		written, err = w.switchOff(ctx, stored, k, reason)
		return err
	})
	if err == nil { // behind the loop: what follows must not repeat the write
		err = w.reportSwitchOff(ctx, old, written, k, reason, answer)
	}
	if err != nil {
		return written.Revision, fmt.Errorf("switch off the %s endpoint of app %s: %w", k, app, err)
	}
	return written.Revision, nil
}

func (w *Writer) switchOff(ctx context.Context, old *registry.AppRecord, k partner.EndpointKind, reason partner.OffReason) (registry.AppRecord, error) {
	actor := registry.Actor{Name: "lamplighter", Role: "service"}
	next := old.App
	next.Endpoints[k].Enabled, next.Endpoints[k].OffReason, next.Endpoints[k].SwitchedBy = false, reason, actor.Name
	next = partner.NormalizeApp(next, &old.App, w.opts.Now().UTC())
	written, _, err := w.opts.Store.PutApp(ctx, next, old.Revision, nil, actor, "endpoint.switch_off", buildSwitchNotes(&old.App, &next, noProbe)...)
	return written, err
}

// reportSwitchOff does what follows a switch-off by the service. Its caller logs the error.
func (w *Writer) reportSwitchOff(
	ctx context.Context, old *registry.AppRecord, written registry.AppRecord, k partner.EndpointKind, reason partner.OffReason, answer delivery.Result,
) (err error) {
	if w.opts.Effects == nil {
		return nil
	}
	if reason == partner.OffGone {
		err = w.opts.Effects.EndpointGone(ctx, old.App.ClientID, k, answer)
	}
	return errors.Join(err, w.opts.Effects.AppWritten(ctx, old, written))
}

// ChangeApp writes what alter makes of an app, for changes that touch no endpoint and so have no effects. alter returns
// false to write nothing.
func (w *Writer) ChangeApp(ctx context.Context, id partner.ClientID, actor registry.Actor, action string, alter func(partner.App) (partner.App, bool)) error {
	err := w.update(ctx, id, nil, func(stored *registry.AppRecord) error {
		if stored == nil {
			return noApp(id)
		}
		next, changed := alter(stored.App)
		if !changed {
			return nil
		}
		next.UpdatedAt = w.opts.Now().UTC()
		_, _, err := w.opts.Store.PutApp(ctx, next, stored.Revision, nil, actor, action)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s of app %s: %w", action, id, err)
	}
	return nil
}
