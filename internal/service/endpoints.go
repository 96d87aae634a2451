package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// endpointSwitcher switches endpoints off on behalf of the service.
type endpointSwitcher struct {
	store  *registry.Store
	events *appEvents
}

// switchOffTries limits how often a switch-off starts over because of other writes of the app.
const switchOffTries = 20

// SwitchOffUnlessChanged implements drain.Switcher. Settings other than those that unchanged compares may have changed.
func (e *endpointSwitcher) SwitchOffUnlessChanged(
	ctx context.Context, app partner.ClientID, k partner.EndpointKind, unchanged func(registry.AppRecord) bool, reason partner.OffReason, answer delivery.Result,
) (revision int64, err error) {
	for range switchOffTries {
		if revision, err = e.trySwitchOff(ctx, app, k, unchanged, reason, answer); !errors.Is(err, registry.ErrConflict) {
			break
		}
	}
	if err != nil {
		return revision, fmt.Errorf("switch off the %s endpoint of app %s: %w", k, app, err)
	}
	return revision, nil
}

// errChanged reports a switch-off of an endpoint that was changed meanwhile.
var errChanged = errors.New("it was changed, switched or deleted meanwhile")

func (e *endpointSwitcher) trySwitchOff(
	ctx context.Context, app partner.ClientID, k partner.EndpointKind, unchanged func(registry.AppRecord) bool, reason partner.OffReason, answer delivery.Result,
) (int64, error) {
	rec, err := e.store.App(ctx, app)
	if err != nil {
		return 0, err
	}
	if !unchanged(rec) {
		return 0, errChanged
	}
	actor := registry.Actor{Name: "lamplighter", Role: "service"}
	next := rec.App
	next.Endpoints[k].Enabled, next.Endpoints[k].OffReason, next.Endpoints[k].SwitchedBy = false, reason, actor.Name
	next = partner.NormalizeApp(next, &rec.App, time.Now().UTC())
	written, _, err := e.store.PutApp(ctx, next, rec.Revision, nil, actor, "endpoint.switch_off", httpapi.SwitchNotes(&rec.App, &next)...)
	if err != nil {
		return 0, err
	}
	if reason == partner.OffGone { // before the switch-off, whose mail states the reason
		if gone, ok := incident.EventFromResult(answer, ""); ok {
			err = e.events.tracker.Observe(ctx, app, k, gone)
		}
	}
	return written.Revision, errors.Join(err, e.events.AppWritten(ctx, &rec, written, actor))
}
