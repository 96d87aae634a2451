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
	// stepTries bounds how often a step is decided again because the incident was written meanwhile. Few processes ever write one
	// endpoint's incident at the same time.
	stepTries = 20
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

// IncidentStep is what a decision writes.
type IncidentStep struct {
	State incident.State
	// Mails are the mails of the step, one per recipient.
	Mails []incident.RecipientMail
	// Ended is set when the step ended an incident.
	Ended *incident.EndedIncident
	// TakesReports is true for a step of TransitionReports that took the reports into account.
	TakesReports bool
}

// Transition reads the state of an app's endpoint, calls decide, and writes state, mails and history in one step. decide MUST be
// pure: it is called again if the state was written in between, and ErrConflict is returned if that happens too often. A decision
// that changes nothing writes nothing.
//
// The returned step is the one that was written. After an error it may have been written or not. A later call then decides on the
// stored state, and the mails are in the outbox if it was written.
func (s *IncidentStore) Transition(
	ctx context.Context, app partner.ClientID, k partner.EndpointKind, decide func(incident.State) IncidentStep,
) (IncidentStep, error) {
	for range stepTries {
		old, err := s.rdb.HGet(ctx, s.keys.App(app, keys.AppIncidents), k.String()).Result()
		if err != nil && !isRedisNil(err) {
			return IncidentStep{}, wrapError(err, "read incident of %s %s", app, k)
		}
		state, err := incident.DecodeState(old)
		if err != nil {
			return IncidentStep{}, fmt.Errorf("incident of %s %s: %w: %w", app, k, ErrUnreadable, err)
		}
		step := decide(state)
		next := step.State.Encode()
		if next == old && len(step.Mails) == 0 && step.Ended == nil {
			return step, nil
		}
		taken, err := s.commitStep(ctx, app, k, old, next, step, nil)
		if err != nil {
			return IncidentStep{}, err
		}
		if taken {
			return step, nil
		}
	}
	return IncidentStep{}, fmt.Errorf("write incident of %s %s: %w, %d times in a row", app, k, ErrConflict, stepTries)
}

func (s *IncidentStore) commitStep(
	ctx context.Context, app partner.ClientID, k partner.EndpointKind, old, next string, step IncidentStep, reports *Reports,
) (bool, error) {
	ended, endedAt := "", int64(0)
	if step.Ended != nil {
		text, err := encodeEnded(step.Ended)
		if err != nil {
			return false, err
		}
		ended, endedAt = text, step.Ended.EndedAt.UnixMilli()
	}
	args := []any{k.String(), old, next, ended, endedAt, s.keep.Milliseconds(), historyMax}
	ks := s.appKeys(app)
	if reports == nil {
		args = append(args, "", "", "", "")
	} else {
		ks = append(ks, s.reportKeys(app, k)...)
		args = append(args, reports.total, reports.taken, reports.ok, step.State.ReportedAt.IsZero())
	}
	for i := range step.Mails {
		l := &step.Mails[i]
		args = append(args, l.ID(), l.AfterID(), l.Encode())
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
