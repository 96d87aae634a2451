package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// The scripts of what engines see. The writes are those of apps: put_app and delete_app assign a revision if the part of an app
// that engines see changed, and only then.
//
// A revision is max(previous + 1, Redis's clock in ms). So a revision that was returned and then lost with Redis's last second is
// not assigned again to something else, unless the clock goes back.
var (
	feedPoll  = newScript("feed_poll")
	feedSince = newScript("feed_since")
)

const (
	// feedRemovalsKeep is how many removals are remembered for readers, and how many revisions a reader may still name.
	feedRemovalsKeep = 4000
	// feedDeltaMax is how many changed, and how many removed, apps a delta holds; with more of them the reader must read
	// everything again. It MUST be less than feedRemovalsKeep.
	feedDeltaMax = 1000
)

// FeedRevision reads the revision of what engines see, 0 before the first. seen is the highest revision that the caller ever
// read. If Redis has lost it, a revision above it is assigned, and all earlier ones are too old.
func (s *Store) FeedRevision(ctx context.Context, seen int64) (int64, error) {
	n, err := feedPoll.run(ctx, s.rdb, s.configKeys(keys.ConfigFeed, keys.ConfigFeedHistory), seen).Int64()
	return n, wrapError(err, "read the revision of the feed")
}

// FeedDelta is what changed for engines since a revision.
type FeedDelta struct {
	// Revision is the revision to which the answer belongs.
	Revision int64
	// Changed were written. Removed were deleted or have nothing left for engines to see; an app in Removed may exist again.
	Changed, Removed []partner.ClientID
}

// FeedSince reads which apps changed for engines since a revision. Errors: ErrTooOld if the revision is no longer known, or if
// there are too many changes; Revision is set all the same.
func (s *Store) FeedSince(ctx context.Context, after int64) (FeedDelta, error) {
	ks := s.configKeys(keys.ConfigFeed, keys.ConfigFeedChanged, keys.ConfigFeedRemoved, keys.ConfigFeedHistory)
	parts, err := feedSince.run(ctx, s.rdb, ks, after, feedDeltaMax).Slice()
	if err != nil {
		return FeedDelta{}, wrapError(err, "read the feed since revision %d", after)
	}
	if len(parts) != 1 && len(parts) != 3 {
		return FeedDelta{}, newAnswerError(feedSince, parts)
	}
	revision, ok := parts[0].(int64)
	if !ok {
		return FeedDelta{}, newAnswerError(feedSince, parts)
	}
	d := FeedDelta{Revision: revision}
	if len(parts) == 1 {
		return d, fmt.Errorf("read the feed since revision %d: %w", after, ErrTooOld)
	}
	changed, ok1 := decodeStrings(parts[1])
	removed, ok2 := decodeStrings(parts[2])
	if !ok1 || !ok2 {
		return FeedDelta{}, newAnswerError(feedSince, parts)
	}
	for _, id := range changed {
		d.Changed = append(d.Changed, partner.ClientID(id))
	}
	for _, id := range removed {
		d.Removed = append(d.Removed, partner.ClientID(id))
	}
	return d, nil
}

// encodeFeedPart returns a digest of what engines can see of an app in any environment and under any rules about licences. Two
// apps with the same digest look the same to engines. It is empty if there is nothing to see.
func encodeFeedPart(app partner.App) (string, error) {
	if !app.HasIntegration() {
		return "", nil
	}
	type endpoint struct {
		Enabled bool
		URL     string
		URLs    map[partner.Environment]string
	}
	part := struct {
		Granted   []partner.License
		Endpoints []endpoint
	}{Granted: app.GrantedLicenses}
	for _, k := range partner.IntegrationKinds() {
		e := app.Endpoints[k]
		part.Endpoints = append(part.Endpoints, endpoint{e.Enabled, e.URL, e.URLs})
	}
	b, err := json.Marshal(part)
	if err != nil {
		return "", fmt.Errorf("encode what engines see of app %s: %w", app.ClientID, err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16]), nil
}
