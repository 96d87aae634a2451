package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var reportScript = newScript("report")

const (
	// reportedTenantsMax is the number up to which the tenants of one incident are counted.
	reportedTenantsMax = 10000
	// reportedNames is how many of their names the incident gets.
	reportedNames = 50
)

// Report is what an engine says about one call of an endpoint.
type Report struct {
	// Line is the number of the report under the idempotency key.
	Line   int
	Tenant tenant.ID
	// Failure is what went wrong, nil if the endpoint answers again.
	Failure *incident.Failure
}

// Reports are what engines reported and the incident does not include yet.
type Reports struct {
	// Before counts the failed calls up to the newest success that the incident does not include, After those after it. Without
	// such a success all are After.
	Before, After int64
	// Succeeded is true when there was such a success.
	Succeeded bool
	// Newest is the newest failure, nil when none was ever reported.
	Newest *incident.Failure
	// Tenants are some of those whose calls failed since the trouble began, Affected counts them all, up to reportedTenantsMax.
	Tenants  []tenant.ID
	Affected int64

	// total, taken and ok are the record as it was read.
	total, taken int64
	ok           string
}

// HasNewReports reports whether there are reports that the incident does not include.
func (r *Reports) HasNewReports() bool { return r.Before+r.After > 0 || r.Succeeded }

// needsWrite reports whether a commit must mark reports as taken, or remove those of a state that has none.
func (r *Reports) needsWrite(next *incident.State) bool {
	return r != nil && (r.HasNewReports() || next.ReportedAt.IsZero())
}

// RecordReports stores what engines report, each line of an idempotency key once. It returns which lines were stored before. If
// it returns no error, all reports are durable, even if the process ends. CommitIfUnchanged takes them into account.
func (s *IncidentStore) RecordReports(
	ctx context.Context, app partner.ClientID, k partner.EndpointKind, key string, keep time.Duration, reports []Report,
) (replayed []bool, err error) {
	ks := append(s.reportKeys(app, k), s.keys.App(app, keys.AppIncidents))
	if key != "" {
		ks = append(ks, s.keys.App(app, keys.AppReportKeys)+":"+hashIdempotencyKey(k.String()+" "+key, 0))
	}
	args := []any{k.String(), reportedTenantsMax, keep.Milliseconds()}
	for _, r := range reports {
		doc := ""
		if r.Failure != nil {
			b, err := json.Marshal(r.Failure)
			if err != nil {
				return nil, fmt.Errorf("encode a report about %s %s: %w", app, k, err)
			}
			doc = string(b)
		}
		args = append(args, r.Line, string(r.Tenant), doc)
	}
	fresh, err := reportScript.run(ctx, s.rdb, ks, args...).Int64Slice()
	if err != nil {
		return nil, wrapError(err, "store reports about %s %s", app, k)
	}
	if len(fresh) != len(reports) {
		return nil, newAnswerError(reportScript, fresh)
	}
	replayed = make([]bool, len(fresh))
	for i, n := range fresh {
		replayed[i] = n == 0
	}
	return replayed, nil
}

// reportKeys returns the hash of reports and the set of tenants of one endpoint.
func (s *IncidentStore) reportKeys(app partner.ClientID, k partner.EndpointKind) []string {
	return []string{s.keys.App(app, keys.AppReports), s.keys.App(app, keys.AppReported) + ":" + k.String()}
}

// ReportedEndpoints lists the endpoints of an app about which something is stored: reports that no incident includes yet, or the
// tenants of a trouble that may be over.
func (s *IncidentStore) ReportedEndpoints(ctx context.Context, app partner.ClientID) ([]partner.EndpointKind, error) {
	all, err := s.rdb.HGetAll(ctx, s.keys.App(app, keys.AppReports)).Result()
	if err != nil {
		return nil, wrapError(err, "read reports about %s", app)
	}
	var out []partner.EndpointKind
	for _, k := range partner.AllEndpointKinds() {
		if _, err := decodeReports(all[k.String()]); err != nil {
			return nil, fmt.Errorf("reports about %s %s: %w", app, k, err)
		}
		if all[k.String()] != "" {
			out = append(out, k)
		}
	}
	return out, nil
}

// ReadReportedIncident reads a state and what was reported since, at one moment, for CommitIfUnchanged.
func (s *IncidentStore) ReadReportedIncident(ctx context.Context, app partner.ClientID, k partner.EndpointKind) (StoredIncident, error) {
	ks := s.reportKeys(app, k)
	var state, record *redis.StringCmd
	var names *redis.StringSliceCmd
	var count *redis.IntCmd
	_, err := s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		state = p.HGet(ctx, s.keys.App(app, keys.AppIncidents), k.String())
		record = p.HGet(ctx, ks[0], k.String())
		names = p.SRandMemberN(ctx, ks[1], reportedNames)
		count = p.SCard(ctx, ks[1])
		return nil
	})
	if err != nil && !isRedisNil(err) {
		return StoredIncident{}, wrapError(err, "read reports about %s %s", app, k)
	}
	r, err := decodeReports(record.Val())
	if err != nil {
		return StoredIncident{}, fmt.Errorf("reports about %s %s: %w", app, k, err)
	}
	r.Affected = count.Val()
	for _, id := range names.Val() {
		r.Tenants = append(r.Tenants, tenant.ID(id))
	}
	return decodeStoredIncident(app, k, state.Val(), &r)
}

var reportRecord = regexp.MustCompile(`^1;(\d+);(\d+);(-|\d+);(.*)$`)

// decodeReports parses "1;<total>;<taken>;<ok>;<newest failure>"; "" means no reports.
func decodeReports(text string) (Reports, error) {
	if text == "" {
		return Reports{ok: "-"}, nil
	}
	m := reportRecord.FindStringSubmatch(text)
	if m == nil {
		return Reports{}, fmt.Errorf("%w: no record of reports", ErrUnreadable)
	}
	total, err1 := strconv.ParseInt(m[1], 10, 64)
	taken, err2 := strconv.ParseInt(m[2], 10, 64)
	r := Reports{total: total, taken: taken, ok: m[3], After: max(total-taken, 0)}
	if m[3] != "-" {
		ok, err := strconv.ParseInt(m[3], 10, 64)
		if err != nil {
			return Reports{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		r.Succeeded, r.Before = true, max(ok-taken, 0)
		r.After -= r.Before
	}
	if err := errors.Join(err1, err2); err != nil {
		return Reports{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if m[4] != "" {
		r.Newest = &incident.Failure{}
		if err := json.Unmarshal([]byte(m[4]), r.Newest); err != nil {
			return Reports{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
	}
	return r, nil
}
