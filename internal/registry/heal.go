package registry

import (
	"context"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

var healApp = newScript("heal_app", "revision")

// HealApp assigns an app a revision above those that its mailbox knows, if Redis lost the settings' last writes. Every process
// then reads the app again, and the mailbox gets its settings. birth, revision and endpoint are what the mailbox knew before the
// call: its birth, its revision and the revision of its endpoint. HealApp reports whether it wrote. If the settings know all of
// these, or have no such app, nothing is written. Errors: ErrUnreadable.
func (s *Store) HealApp(ctx context.Context, id partner.ClientID, birth, revision, endpoint int64) (bool, error) {
	ks := s.configKeys(keys.ConfigApps, keys.ConfigRevision, keys.ConfigChanged, keys.ConfigHistory, keys.ConfigLives, keys.ConfigAudit)
	n, err := healApp.run(ctx, s.durable, ks, string(id), birth, revision, endpoint, s.opts.AuditKeep, feedRemovalsKeep).Int64()
	return n > 0, wrapError(err, "heal app %s", id)
}
