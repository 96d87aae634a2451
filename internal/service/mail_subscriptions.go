package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// markTries limits how often a change of an address starts over because of other writes of the app.
const markTries = 10

// appChanger writes apps for the mailer.
type appChanger struct{ store *registry.Store }

// ChangeApp implements mailer.AppChanger. It writes an app if it has not changed since it was read.
func (d *appChanger) ChangeApp(ctx context.Context, id partner.ClientID, actor registry.Actor, action string, alter func(partner.App) (partner.App, bool)) error {
	for range markTries {
		rec, err := d.store.App(ctx, id)
		if err != nil {
			return fmt.Errorf("mark an address of app %s: %w", id, err)
		}
		next, changed := alter(rec.App)
		if !changed {
			return nil
		}
		next.UpdatedAt = time.Now().UTC()
		if _, _, err = d.store.PutApp(ctx, next, rec.Revision, nil, actor, action); !errors.Is(err, registry.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("mark an address of app %s: %w", id, registry.ErrConflict)
}
