package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// The scripts of probes.
var (
	claimProbe  = newScript("probe_claim")
	settleProbe = newScript("probe_settle")
)

// probeSkew is how far the clock of the process that set a due time may be ahead of Redis's.
const probeSkew = 2 * time.Second

// ProbeStore stores what probes found out about each app's endpoints, in the app's hash slot: one value for each endpoint that
// was ever probed. It is safe for concurrent use and has no state of its own.
type ProbeStore struct {
	rdb  redis.UniversalClient
	keys keys.Space
}

// NewProbeStore returns the store on rdb, which the caller closes.
func NewProbeStore(rdb redis.UniversalClient, space keys.Space) *ProbeStore {
	return &ProbeStore{rdb: rdb, keys: space}
}

// ProbeClaim is the right to write the result of one probe.
type ProbeClaim struct {
	App      partner.ClientID
	Endpoint partner.EndpointKind
	// State is the stored state when it was claimed.
	State health.State
	stamp string
}

// Claim claims an endpoint that is due, for the time that a probe may take. ok is false if it is not due, or claimed by another.
// With force it is claimed anyway: the result of the other claim is then not written. Errors: ErrUnreadable.
func (s *ProbeStore) Claim(ctx context.Context, app partner.ClientID, k partner.EndpointKind, lease time.Duration, force bool) (ProbeClaim, bool, error) {
	c := ProbeClaim{App: app, Endpoint: k, stamp: rand.Text()}
	forced := "0"
	if force {
		forced = "1"
	}
	parts, err := claimProbe.run(ctx, s.rdb, s.probeKeys(app), k.String(), c.stamp, lease.Milliseconds(), forced, probeSkew.Milliseconds()).Slice()
	if err != nil {
		return ProbeClaim{}, false, wrapError(err, "claim %s %s for a probe", app, k)
	}
	if len(parts) != 3 {
		return ProbeClaim{}, false, newAnswerError(claimProbe, parts)
	}
	taken, ok1 := parts[0].(int64)
	due, ok2 := parts[1].(int64)
	text, ok3 := parts[2].(string)
	if !ok1 || !ok2 || !ok3 {
		return ProbeClaim{}, false, newAnswerError(claimProbe, parts)
	}
	if c.State, err = decodeProbe(text, due); err != nil {
		return ProbeClaim{}, false, fmt.Errorf("probe of %s %s: %w", app, k, err)
	}
	return c, taken == 1, nil
}

// Settle writes the state after a probe, with the time at which the endpoint is due again. It reports whether the claim was still
// valid.
func (s *ProbeStore) Settle(ctx context.Context, c ProbeClaim, next health.State) (bool, error) {
	n, err := settleProbe.run(ctx, s.rdb, s.probeKeys(c.App), c.Endpoint.String(), c.stamp, toMillis(next.Due), next.Encode()).Int()
	return n == 1, wrapError(err, "write the probe of %s %s", c.App, c.Endpoint)
}

// ProbeStates are the states of one app's endpoints; one that is absent was never probed.
type ProbeStates map[partner.EndpointKind]health.State

// Probes reads the states of several apps, in one round trip, each at its app's index. A value that cannot be read is left out,
// and the error (ErrUnreadable) names it.
func (s *ProbeStore) Probes(ctx context.Context, apps []partner.ClientID) ([]ProbeStates, error) {
	texts, err := readHashes(ctx, s.rdb, apps, func(id partner.ClientID) string { return s.keys.App(id, keys.AppProbes) })
	if err != nil {
		return nil, wrapError(err, "read probes")
	}
	out := make([]ProbeStates, len(apps))
	var errs []error
	for i, all := range texts {
		out[i] = make(ProbeStates, len(all))
		for name, text := range all {
			k, err := partner.ParseEndpointKind(name)
			if err == nil {
				out[i][k], err = parseProbe(text)
			}
			if err != nil {
				delete(out[i], k)
				errs = append(errs, fmt.Errorf("probe of %s %s: %w: %w", apps[i], name, ErrUnreadable, err))
			}
		}
	}
	return out, errors.Join(errs...)
}

// Forget removes the state of one endpoint, so that it is due at once: its URL, its switch or the keys that it answers with have
// changed.
func (s *ProbeStore) Forget(ctx context.Context, app partner.ClientID, k partner.EndpointKind) error {
	return wrapError(s.rdb.HDel(ctx, s.probeKeys(app)[0], k.String()).Err(), "forget the probe of %s %s", app, k)
}

// SaveSummary stores the summary that one process counted for the others; it expires after ttl.
func (s *ProbeStore) SaveSummary(ctx context.Context, doc []byte, ttl time.Duration) error {
	return wrapError(s.rdb.Set(ctx, s.keys.Config(keys.ConfigProbes), doc, ttl).Err(), "save the summary of probes")
}

// Summary reads what SaveSummary stored, nil if there is nothing.
func (s *ProbeStore) Summary(ctx context.Context) ([]byte, error) {
	doc, err := s.rdb.Get(ctx, s.keys.Config(keys.ConfigProbes)).Bytes()
	if isRedisNil(err) {
		return nil, nil
	}
	return doc, wrapError(err, "read the summary of probes")
}

func (s *ProbeStore) probeKeys(app partner.ClientID) []string {
	return []string{s.keys.App(app, keys.AppProbes)}
}

// probeFields is the number of parts of a stored probe.
const probeFields = 5

// parseProbe parses "1;<due ms>;<end of the claim, ms>;<stamp>;<state>".
func parseProbe(text string) (health.State, error) {
	parts := strings.SplitN(text, ";", probeFields)
	if len(parts) != probeFields || parts[0] != "1" {
		return health.State{}, errors.New("not of format 1")
	}
	due, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return health.State{}, fmt.Errorf("its due time: %w", err)
	}
	return decodeProbe(parts[4], due)
}

func decodeProbe(text string, due int64) (health.State, error) {
	st, err := health.DecodeState(text)
	if err != nil {
		return health.State{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	st.Due = fromMillis(due)
	return st, nil
}

// readHashes reads one hash per app, in one round trip.
func readHashes(
	ctx context.Context, rdb redis.UniversalClient, apps []partner.ClientID, key func(partner.ClientID) string,
) ([]map[string]string, error) {
	if len(apps) == 0 {
		return nil, nil
	}
	cmds := make([]*redis.MapStringStringCmd, len(apps))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range apps {
			cmds[i] = p.HGetAll(ctx, key(id))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]map[string]string, len(apps))
	for i, cmd := range cmds {
		out[i] = cmd.Val()
	}
	return out, nil
}

// IncidentsOf reads the stored states of several apps' endpoints, in one round trip, each at its app's index.
func (s *IncidentStore) IncidentsOf(ctx context.Context, apps []partner.ClientID) ([]map[partner.EndpointKind]incident.State, error) {
	texts, err := readHashes(ctx, s.rdb, apps, func(id partner.ClientID) string { return s.keys.App(id, keys.AppIncidents) })
	if err != nil {
		return nil, wrapError(err, "read incidents")
	}
	out := make([]map[partner.EndpointKind]incident.State, len(apps))
	for i, all := range texts {
		if out[i], err = decodeIncidents(apps[i], all); err != nil {
			return nil, err
		}
	}
	return out, nil
}
