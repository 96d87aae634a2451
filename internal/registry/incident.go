package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

const (
	// historyMax bounds the ended incidents of one app, whatever their age.
	historyMax = 1000
)

// IncidentStore stores each app's incidents, their history and the outbox of their mails, all in the app's hash slot. It is safe
// for concurrent use and has no state of its own.
type IncidentStore struct {
	rdb  redis.UniversalClient
	keys keys.Space
	keep time.Duration
	// nonce names one claim, so that a repeat by the client library is distinguished from a second claim.
	nonce func() string

	commit, claim, settle, due, trouble *script
}

// NewIncidentStore returns the store on rdb, which the caller closes. keep is how long ended incidents are listed; 0 means
// DefaultIncidentsKeep.
func NewIncidentStore(rdb redis.UniversalClient, space keys.Space, keep time.Duration) *IncidentStore {
	setDefault(&keep, DefaultIncidentsKeep)
	return &IncidentStore{
		rdb: rdb, keys: space, keep: keep, nonce: rand.Text,
		commit: newScript("incident_commit"), claim: newScript("outbox_claim"),
		settle: newScript("outbox_settle"), due: newScript("outbox_due"), trouble: newScript("trouble"),
	}
}

// StoredIncident is the state of an endpoint's incident as it was read.
type StoredIncident struct {
	State incident.State
	// Reports are what engines reported since; nil unless ReadReportedIncident read them.
	Reports *Reports

	// text is the state as it is stored. CommitIfUnchanged compares it.
	text string
}

// ReadIncident reads the state of an app's endpoint, for CommitIfUnchanged.
func (s *IncidentStore) ReadIncident(ctx context.Context, app partner.ClientID, k partner.EndpointKind) (StoredIncident, error) {
	text, err := s.rdb.HGet(ctx, s.keys.App(app, keys.AppIncidents), k.String()).Result()
	if err != nil && !isRedisNil(err) {
		return StoredIncident{}, wrapError(err, "read incident of %s %s", app, k)
	}
	return decodeStoredIncident(app, k, text, nil)
}

func decodeStoredIncident(app partner.ClientID, k partner.EndpointKind, text string, reports *Reports) (StoredIncident, error) {
	state, err := incident.DecodeState(text)
	if err != nil {
		return StoredIncident{}, fmt.Errorf("incident of %s %s: %w: %w", app, k, ErrUnreadable, err)
	}
	return StoredIncident{State: state, Reports: reports, text: text}, nil
}

// CommitIfUnchanged writes the state, the mails and the ended incident of a decision in one step, if the state is still the one
// that was read. Then it returns true. Otherwise it writes nothing: the caller MUST read again and decide anew. A decision that
// changes nothing is not written.
//
// If reports were read, they are marked as taken in the same write, so that they count once whatever fails. If the new state has
// no reports, their stored tenants are removed, too.
//
// After an error the decision may have been written or not. A later call then decides on the stored state, and the mails are in
// the outbox if it was written.
func (s *IncidentStore) CommitIfUnchanged(
	ctx context.Context, app partner.ClientID, k partner.EndpointKind, was StoredIncident, d incident.Decision,
) (bool, error) {
	next := d.State.Encode()
	if next == was.text && len(d.Mails) == 0 && d.Ended == nil && !was.Reports.needsWrite(&d.State) {
		return true, nil
	}
	ended, endedAt := "", int64(0)
	if d.Ended != nil {
		text, err := encodeEnded(d.Ended)
		if err != nil {
			return false, err
		}
		ended, endedAt = text, d.Ended.EndedAt.UnixMilli()
	}
	args := []any{k.String(), was.text, next, ended, endedAt, s.keep.Milliseconds(), historyMax}
	ks := s.appKeys(app)
	if r := was.Reports; r == nil {
		args = append(args, "", "", "", "")
	} else {
		ks = append(ks, s.reportKeys(app, k)...)
		args = append(args, r.total, r.taken, r.ok, d.State.ReportedAt.IsZero())
	}
	for i := range d.Mails {
		m := &d.Mails[i]
		args = append(args, m.ID(), m.AfterID(), m.Encode())
	}
	n, err := s.commit.run(ctx, s.rdb, ks, args...).Int()
	return n == 1, wrapError(err, "write incident of %s %s", app, k)
}

func (s *IncidentStore) appKeys(app partner.ClientID) []string {
	return []string{
		s.keys.App(app, keys.AppIncidents), s.keys.App(app, keys.AppOutbox), s.keys.App(app, keys.AppHistory), s.keys.App(app, keys.AppSettled),
	}
}

// Incidents returns the stored state of an app's endpoints; one that is absent is healthy.
func (s *IncidentStore) Incidents(ctx context.Context, app partner.ClientID) (map[partner.EndpointKind]incident.State, error) {
	all, err := s.rdb.HGetAll(ctx, s.keys.App(app, keys.AppIncidents)).Result()
	if err != nil {
		return nil, wrapError(err, "read incidents of %s", app)
	}
	return decodeIncidents(app, all)
}

func decodeIncidents(app partner.ClientID, all map[string]string) (map[partner.EndpointKind]incident.State, error) {
	states := make(map[partner.EndpointKind]incident.State, len(all))
	for name, text := range all {
		k, err := partner.ParseEndpointKind(name)
		if err != nil {
			return nil, fmt.Errorf("incidents of %s: %w: %w", app, ErrUnreadable, err)
		}
		if states[k], err = incident.DecodeState(text); err != nil {
			return nil, fmt.Errorf("incident of %s %s: %w: %w", app, k, ErrUnreadable, err)
		}
	}
	return states, nil
}

// History lists an app's ended incidents, the most recently ended first.
func (s *IncidentStore) History(ctx context.Context, app partner.ClientID, limit int) ([]incident.EndedIncident, error) {
	texts, err := s.rdb.ZRevRange(ctx, s.keys.App(app, keys.AppHistory), 0, int64(clampPageSize(limit))-1).Result()
	if err != nil {
		return nil, wrapError(err, "read ended incidents of %s", app)
	}
	return decodeEnded(app, texts)
}

// Subscription is a recipient's interest in the mail about one app.
type Subscription struct {
	App partner.ClientID
	// Recipient is the address's incident.RecipientKey: addresses themselves are not stored here.
	Recipient string
}

func (s Subscription) memberName() string { return string(s.App) + "|" + s.Recipient }

// SetMailSuppressed records whether a recipient wants no mail about an app.
func (s *IncidentStore) SetMailSuppressed(ctx context.Context, sub Subscription, on bool) error {
	set := s.keys.Config(keys.ConfigSuppressed)
	if on {
		return wrapError(s.rdb.SAdd(ctx, set, sub.memberName()).Err(), "suppress mail about %s", sub.App)
	}
	return wrapError(s.rdb.SRem(ctx, set, sub.memberName()).Err(), "allow mail about %s", sub.App)
}

// MailsSuppressed reports, for each subscription, whether its mail is not wanted.
func (s *IncidentStore) MailsSuppressed(ctx context.Context, subs []Subscription) ([]bool, error) {
	if len(subs) == 0 {
		return nil, nil
	}
	members := make([]any, len(subs))
	for i, sub := range subs {
		members[i] = sub.memberName()
	}
	found, err := s.rdb.SMIsMember(ctx, s.keys.Config(keys.ConfigSuppressed), members...).Result()
	return found, wrapError(err, "read which mails are suppressed")
}
