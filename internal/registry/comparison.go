package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// The scripts of the comparison.
var (
	raiseTop = newScript("raise")
	askRound = newScript("ask_round")
)

// Comparison is how far the comparison of approvals, mailboxes, index and records came. It lies beside
// the lease of who compares, so that another process goes on where it stopped.
type Comparison struct {
	// Cursor is where the round goes on, empty at its start; Started is when the round began.
	Cursor  string
	Started time.Time
	// Compared counts the round's pairs so far, Closed the gaps that it closed, and Pairs those of the last complete round.
	Compared, Closed, Pairs int64
	// Fast: the round began as one that was asked for.
	Fast bool
	// Asked is when a fast round was asked for last, in microseconds of Redis' clock; Serving is what it was when the
	// round began, and Served what it was when the last complete round began.
	Asked, Serving, Served int64
	// Completed is when the last complete round ended, Took how long it took, and Gaps what it closed.
	Completed time.Time
	Took      time.Duration
	Gaps      int64
	// Indexed is when the whole index was last compared.
	Indexed time.Time
	// Primaries names the servers as they were last seen; see redisconn.IdentifyPrimaries.
	Primaries string
}

// WantsFastRound reports that a fast round was asked for which no complete round has answered.
func (c Comparison) WantsFastRound() bool { return c.Asked > c.Served }

// Comparison reads how far the comparison came. What cannot be read counts as not there: the round then
// begins again.
func (s *Store) Comparison(ctx context.Context) (Comparison, error) {
	m, err := s.rdb.HGetAll(ctx, s.keys.Config(keys.ConfigComparison)).Result()
	if err != nil {
		return Comparison{}, wrapError(err, "read how far the comparison came")
	}
	asked, err := s.rdb.Get(ctx, s.keys.Config(keys.ConfigFastRound)).Int64()
	var odd *strconv.NumError
	if err != nil && !errors.Is(err, redis.Nil) && !errors.As(err, &odd) && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return Comparison{}, wrapError(err, "read when a fast round was asked for")
	}
	number := func(name string) int64 {
		n, err := strconv.ParseInt(m[name], 10, 64)
		if err != nil {
			return 0
		}
		return max(n, 0)
	}
	return Comparison{
		Cursor: m["cursor"], Started: fromMillis(number("started")), Compared: number("compared"), Closed: number("closed"), Pairs: number("pairs"), Fast: m["fast"] == "1",
		Asked: max(asked, 0), Serving: number("serving"), Served: number("served"),
		Completed: fromMillis(number("completed")), Took: time.Duration(number("took")) * time.Millisecond, Gaps: number("gaps"), Indexed: fromMillis(number("indexed")),
		Primaries: m["primaries"],
	}, nil
}

// SaveComparison writes how far the comparison came, all but Asked, which is RequestFastRound's.
func (s *Store) SaveComparison(ctx context.Context, c Comparison) error {
	fast := "0"
	if c.Fast {
		fast = "1"
	}
	err := s.rdb.HSet(ctx, s.keys.Config(keys.ConfigComparison),
		"cursor", c.Cursor, "started", toMillis(c.Started), "compared", c.Compared, "closed", c.Closed, "pairs", c.Pairs, "fast", fast,
		"serving", c.Serving, "served", c.Served,
		"completed", toMillis(c.Completed), "took", c.Took.Milliseconds(), "gaps", c.Gaps, "indexed", toMillis(c.Indexed), "primaries", c.Primaries).Err()
	return wrapError(err, "write how far the comparison came")
}

// RequestFastRound asks for one fast round of the comparison, from its start, and returns when it did. Any
// process may, at any time; what is asked for before a round begins is answered by it.
func (s *Store) RequestFastRound(ctx context.Context) (int64, error) {
	n, err := askRound.run(ctx, s.rdb, []string{s.keys.Config(keys.ConfigFastRound)}).Int64()
	return n, wrapError(err, "ask for a fast round of the comparison")
}

// TenantSide is what the comparison reads of a tenant's side of a pair.
type TenantSide struct {
	// Known is false for a tenant nobody ever reported.
	Known bool
	// Top is the highest sequence given out, Owed that the record bears the mark of a fan-out.
	Top           int64
	FanoutPending bool
	// Indexed: the tenant's index holds the app.
	Indexed bool
	// Unreadable: the record is of another version; the pair cannot be compared.
	Unreadable bool
}

// ReadTenantSides reads the tenants' sides of pairs of an app, in the order of ids, and Redis' clock, in one round trip for each
// pipelineMax commands.
func (s *Store) ReadTenantSides(ctx context.Context, app partner.ClientID, ids []tenant.ID) ([]TenantSide, time.Time, error) {
	out := make([]TenantSide, len(ids))
	var now time.Time
	for start := 0; start < len(ids); start += pipelineMax / 2 {
		chunk := ids[start:min(start+pipelineMax/2, len(ids))]
		records, listed := make([]*redis.SliceCmd, len(chunk)), make([]*redis.BoolCmd, len(chunk))
		var clock *redis.TimeCmd
		// Each command holds its own error.
		_, _ = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			clock = p.Time(ctx)
			for i, id := range chunk {
				records[i] = p.HMGet(ctx, s.keys.Tenant(id, keys.TenantRecord), "v", "top", "owed")
				listed[i] = p.SIsMember(ctx, s.keys.Tenant(id, keys.TenantApprovals), string(app))
			}
			return nil
		})
		at, err := clock.Result()
		if err != nil {
			return nil, time.Time{}, wrapError(err, "read Redis' clock")
		}
		if now.IsZero() {
			now = at
		}
		for i, id := range chunk {
			if out[start+i], err = decodeTenantSide(records[i], listed[i]); err != nil {
				return nil, time.Time{}, wrapError(err, "peek at tenant %s", id)
			}
		}
	}
	return out, now, nil
}

func decodeTenantSide(record *redis.SliceCmd, listed *redis.BoolCmd) (TenantSide, error) {
	v, err := record.Result()
	is, listedErr := listed.Result()
	for _, e := range []error{err, listedErr} {
		if redis.HasErrorPrefix(e, "WRONGTYPE") {
			return TenantSide{Unreadable: true}, nil
		}
		if e != nil {
			return TenantSide{}, e
		}
	}
	k := TenantSide{Indexed: is}
	version, known := v[0].(string)
	top, changed := v[1].(string)
	_, k.FanoutPending = v[2].(string)
	if !known && !changed && !k.FanoutPending {
		return k, nil
	}
	k.Known = true
	if changed {
		k.Top, err = strconv.ParseInt(top, 10, 64)
	}
	k.Unreadable = version != strconv.Itoa(format) || err != nil
	return k, nil
}

// ReadIndexPage lists tenants that have an index of approvals, in no order, each at least once in a walk
// while it has one, from about count keys of Redis. An empty cursor starts; an empty next one ends. It
// looks at every key of the database, whatever it is for. In a Cluster the primaries are walked one after the other.
func (s *Store) ReadIndexPage(ctx context.Context, cursor string, count int64) (ids []tenant.ID, next string, err error) {
	before, after := s.keys.IndexPattern()
	scan := func(rdb redis.Cmdable, at string) (string, error) {
		from, err := strconv.ParseUint(at, 10, 64)
		if at != "" && err != nil {
			from = 0 // no cursor of ours: from the start
		}
		found, to, err := rdb.Scan(ctx, from, escapeGlob(before)+"*"+escapeGlob(after), count).Result()
		if err != nil {
			return "", wrapError(err, "walk the index of approvals")
		}
		for _, key := range found {
			name := strings.TrimSuffix(strings.TrimPrefix(key, before), after)
			if id, err := tenant.ParseID(name); err == nil {
				ids = append(ids, id)
			}
		}
		if to == 0 {
			return "", nil
		}
		return strconv.FormatUint(to, 10), nil
	}
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		next, err = scan(s.rdb, cursor)
		return ids, next, err
	}
	nodes, err := listPrimaries(ctx, cluster)
	if err != nil {
		return nil, "", wrapError(err, "walk the index of approvals")
	}
	addr, at, _ := strings.Cut(cursor, "|")
	names := slices.Sorted(maps.Keys(nodes))
	i, found := slices.BinarySearch(names, addr)
	if i == len(names) {
		return nil, "", nil // the last one left the Cluster
	}
	if !found {
		at = ""
	}
	switch at, err = scan(nodes[names[i]], at); {
	case err != nil:
		return nil, "", err
	case at != "":
		return ids, names[i] + "|" + at, nil
	case i+1 < len(names):
		return ids, names[i+1] + "|0", nil
	default:
		return ids, "", nil
	}
}

func listPrimaries(ctx context.Context, cluster *redis.ClusterClient) (map[string]*redis.Client, error) {
	var mu sync.Mutex
	nodes := map[string]*redis.Client{}
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes[node.Options().Addr] = node
		return nil
	})
	return nodes, err
}

// escapeGlob escapes what a pattern of Redis gives a meaning.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}

// AddPendingFanouts puts tenants on the list of owed fan-outs.
func (s *Store) AddPendingFanouts(ctx context.Context, ids []tenant.ID) error {
	return s.addPendingFanouts(ctx, s.durable, ids)
}

// RaiseSequence gives a tenant whose record was read as v, and of which an app knows a higher sequence, a new
// one above both, under which its state is told to every app that approved it. It reports whether it did: not where
// somebody wrote the tenant since, or nobody ever reported it. The tenant is listed before and after, as an accepted change is.
func (s *Store) RaiseSequence(ctx context.Context, v TenantView, known int64) (bool, error) {
	id := v.Record.Tenant
	if !v.Known || v.Record.Top >= known {
		return false, nil
	}
	args := append([]any{string(id), strconv.FormatInt(known, 10), s.opts.ChangesKeep.Milliseconds(), changesMax}, encodeExpectedView(v)...)
	for _, slot := range listChangedSlots(v.Record) {
		args = append(args, slot.String(), encodeWithoutID(v.Record.Heads[slot].Change))
	}
	if err := s.addPendingFanouts(ctx, s.rdb, []tenant.ID{id}); err != nil {
		return false, err
	}
	top, err := raiseTop.run(ctx, s.durable, []string{s.keys.Tenant(id, keys.TenantRecord), s.keys.Tenant(id, keys.TenantChanges)}, args...).Int64()
	if err != nil {
		return false, wrapError(err, "raise the sequence of tenant %s", id)
	}
	if top == 0 {
		return false, nil
	}
	if err := s.addPendingFanouts(ctx, s.durable, []tenant.ID{id}); err != nil {
		return true, err
	}
	return true, s.AppendAudit(ctx, AuditEntry{
		Actor: "comparison", Role: "service", Action: "tenant.heal", Subject: string(id),
		Before: fmt.Sprintf(`{"sequence":%d,"known":%d}`, v.Record.Top, known), After: fmt.Sprintf(`{"sequence":%d}`, top),
	})
}

// listChangedSlots lists the slots that a record tells, in the order in which they are told.
func listChangedSlots(r tenant.Record) []tenant.Slot {
	var slots []tenant.Slot
	for slot := range tenant.Slot(tenant.Slots) {
		if r.Heads[slot].Sequence != 0 {
			slots = append(slots, slot)
		}
	}
	slices.SortStableFunc(slots, func(a, b tenant.Slot) int {
		return int(max(min(r.Heads[a].Sequence-r.Heads[b].Sequence, 1), -1))
	})
	return slots
}

// encodeWithoutID is a change as it is stored, behind its id.
func encodeWithoutID(c tenant.Change) string {
	c.ID = ""
	return strings.TrimPrefix(delivery.EncodeChange(c), `{"v":1,"i":""`)
}

// CollectUnfinishedApprovals lists the approvals that calls are changing, of the limit oldest calls; complete is false where
// there are more. Errors: ErrUnreadable, with those that could be read.
func (s *Store) CollectUnfinishedApprovals(ctx context.Context, limit int) (list []UnfinishedApproval, complete bool, err error) {
	for skip := 0; skip < limit; skip += maxPage {
		page, err := s.ReadUnfinishedApprovals(ctx, 0, skip, maxPage)
		list = append(list, page...)
		if err != nil && !errors.Is(err, ErrUnreadable) {
			return nil, false, err
		}
		if len(page) < maxPage && err == nil {
			return list, true, nil
		}
	}
	return list, false, nil
}
