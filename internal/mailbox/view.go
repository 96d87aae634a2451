package mailbox

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// viewSample is how many entries View examines for the oldest one.
const viewSample = 64

// View returns a summary of an app's mailbox.
func (s *Store) View(ctx context.Context, app partner.ClientID) (View, error) {
	views, errs := s.Views(ctx, []partner.ClientID{app})
	return views[0], errs[0]
}

// Views returns summaries of several mailboxes, in one round trip; errors are at their app's index.
func (s *Store) Views(ctx context.Context, apps []partner.ClientID) ([]View, []error) {
	out, errs := make([]View, len(apps)), make([]error, len(apps))
	calls := make([]call, len(apps))
	for i, a := range apps {
		calls[i] = newCall(Life{App: a}, "", viewSample)
	}
	s.runMany(ctx, s.scripts.view, calls, func(i int, cmd *redis.Cmd) {
		v, err := cmd.Slice()
		switch {
		case err != nil:
			errs[i] = wrapError("view", apps[i], err)
		case len(v) != 15:
			errs[i] = wrapError("view", apps[i], ErrFormat)
		default:
			out[i] = decodeView(v)
		}
	})
	return out, errs
}

func decodeView(v []any) View {
	now := time.UnixMilli(asInteger(v[4])).UTC()
	view := View{
		Waiting: asInteger(v[0]), Diverged: asInteger(v[1]), InFlight: asInteger(v[2]), Now: now,
		Openings: int(asInteger(v[6])), Off: asString(v[7]) != "", Owned: asInteger(v[8]) > now.UnixMilli(), Approvals: asInteger(v[9]), Superseded: asInteger(v[10]),
		Birth: asInteger(v[11]), Revision: asInteger(v[12]), EndpointRevision: asInteger(v[13]), Former: parseBirths(asString(v[14])),
	}
	if oldest := asInteger(v[3]); oldest > 0 {
		view.Oldest = max(now.Sub(time.UnixMilli(oldest)), 0)
	}
	if gate := asInteger(v[5]); gate > 0 {
		view.CooldownUntil = time.UnixMilli(gate).UTC()
	}
	return view
}

// ReadPairs returns the states of at most MaxBatch tenants in an app's mailbox.
func (s *Store) ReadPairs(ctx context.Context, app partner.ClientID, ts []tenant.ID) ([]PairState, error) {
	if err := checkBatchSize("inspect", app, len(ts)); err != nil {
		return nil, err
	}
	v, err := s.scripts.inspect.Run(ctx, s.rdb, mailboxKeys(s.keys, app), append([]any{""}, toScriptArgs(ts)...)...).Slice()
	if err != nil {
		return nil, wrapError("inspect", app, err)
	}
	return decodePairStates(app, ts, v)
}

// ReadPairsOfTenant returns the states of one tenant in several mailboxes, in one round trip.
func (s *Store) ReadPairsOfTenant(ctx context.Context, t tenant.ID, apps []partner.ClientID) ([]PairState, error) {
	calls := make([]call, len(apps))
	for i, a := range apps {
		calls[i] = newCall(Life{App: a}, "", string(t))
	}
	out := make([]PairState, len(apps))
	var first error
	s.runMany(ctx, s.scripts.inspect, calls, func(i int, cmd *redis.Cmd) {
		v, err := cmd.Slice()
		err = wrapError("inspect", apps[i], err)
		var one []PairState
		if err == nil {
			one, err = decodePairStates(apps[i], []tenant.ID{t}, v)
		}
		if err == nil {
			out[i] = one[0]
		} else if first == nil {
			first = err
		}
	})
	if first != nil {
		return nil, first
	}
	return out, nil
}

func decodePairStates(app partner.ClientID, ts []tenant.ID, v []any) ([]PairState, error) {
	const fields = 6
	if len(v) != fields*len(ts) {
		return nil, wrapError("inspect", app, ErrFormat)
	}
	out := make([]PairState, len(ts))
	for i, t := range ts {
		row := v[i*fields : (i+1)*fields]
		st := PairState{Tenant: t}
		if mark := asString(row[0]); mark != "" {
			st.Approved = true
			st.Known, st.Again = parseMark(mark)
		}
		for s := range tenant.Slots {
			text := asString(row[1+s])
			if text == "" {
				continue
			}
			e, err := delivery.ParseEntry(text)
			if err != nil {
				return nil, wrapError("inspect", app, err)
			}
			st.Entries[s] = &e
		}
		if due := parseScore(row[4]); due > 0 {
			st.DueAt = time.UnixMilli(due).UTC()
		}
		st.InFlight = parseScore(row[5]) > 0
		out[i] = st
	}
	return out, nil
}

func parseMark(s string) (known int64, again bool) {
	n, again := strings.CutSuffix(s, "*")
	known, _ = strconv.ParseInt(n, 10, 64)
	return known, again
}

// parseScore parses a sorted set's score, which Redis writes as a floating-point number.
func parseScore(v any) int64 {
	f, err := strconv.ParseFloat(asString(v), 64)
	if err != nil {
		return 0
	}
	return int64(f)
}

// fewApprovals is the largest number of approvals that is listed by name.
const fewApprovals = 1000

// byName starts the cursor of a list by name; no cursor of a scan begins with it.
const byName = ">"

// Approvals lists an app's approved tenants page by page. Few of them (fewApprovals) are listed by name, at most limit a page and
// each once. Many come in no order, each at least once while it stays approved, and a page may hold more than limit. An empty
// cursor starts; an empty next one ends.
func (s *Store) Approvals(ctx context.Context, app partner.ClientID, cursor string, limit int) (page []tenant.ID, next string, err error) {
	key := s.keys.App(app, keys.AppTenants)
	after, named := strings.CutPrefix(cursor, byName)
	if cursor == "" {
		n, err := s.rdb.HLen(ctx, key).Result()
		if err != nil {
			return nil, "", wrapError("count approvals in", app, err)
		}
		named = n <= fewApprovals
	}
	if named { // a list that was short when it began is hardly long at its end
		names, err := s.rdb.HKeys(ctx, key).Result()
		page, next = pageAfter(names, after, limit)
		return page, next, wrapError("list approvals in", app, err)
	}
	var at uint64
	if cursor != "" {
		if at, err = strconv.ParseUint(cursor, 10, 64); err != nil {
			return nil, "", ErrCursor
		}
	}
	pairs, at, err := s.rdb.HScan(ctx, key, at, "", int64(limit)).Result()
	if err != nil {
		return nil, "", wrapError("list approvals in", app, err)
	}
	page = make([]tenant.ID, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		page = append(page, tenant.ID(pairs[i]))
	}
	if at != 0 {
		next = strconv.FormatUint(at, 10)
	}
	return page, next, nil
}

// pageAfter returns the page behind a name.
func pageAfter(names []string, after string, limit int) (page []tenant.ID, next string) {
	slices.Sort(names)
	i, found := slices.BinarySearch(names, after)
	if found {
		i++
	}
	names = names[i:]
	if len(names) > limit {
		names = names[:limit]
		next = byName + names[limit-1]
	}
	page = make([]tenant.ID, len(names))
	for i, n := range names {
		page[i] = tenant.ID(n)
	}
	return page, next
}

// HasApproved reports whether an app has approved a tenant.
func (s *Store) HasApproved(ctx context.Context, app partner.ClientID, t tenant.ID) (bool, error) {
	ok, err := s.rdb.HExists(ctx, s.keys.App(app, keys.AppTenants), string(t)).Result()
	return ok, wrapError("look up an approval in", app, err)
}
