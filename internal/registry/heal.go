package registry

import (
	"context"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

var healApp = newScript("heal_app", "revision")

// HealApp gives an app a revision above what its mailbox was told, where Redis lost the settings' last writes;
// every process then reads the app anew, and the mailbox is told its settings. told is what the mailbox had before
// the caller asked: birth, revision and revision of the endpoint. It reports whether it wrote; where the settings
// know all that, or no such app, nothing is written. Errors: ErrUnreadable.
func (s *Store) HealApp(ctx context.Context, id partner.ClientID, birth, revision, endpoint int64) (bool, error) {
	ks := s.configKeys(keys.ConfigApps, keys.ConfigRevision, keys.ConfigChanged, keys.ConfigHistory, keys.ConfigLives, keys.ConfigAudit)
	n, err := healApp.run(ctx, s.durable, ks, string(id), birth, revision, endpoint, s.opts.AuditKeep, feedRemovalsKeep).Int64()
	return n > 0, wrapError(err, "heal app %s", id)
}
