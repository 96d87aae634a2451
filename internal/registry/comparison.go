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

// Comparison is the progress of the comparison of approvals, mailboxes, index and records. It is stored beside the comparison's
// lease, so that another process continues from it.
type Comparison struct {
	// Cursor is where the round continues, empty at its start; Started is when the round began.
	Cursor  string
	Started time.Time
	// Compared counts the round's pairs so far, Closed the gaps that it closed, and Pairs those of the last complete round.
	Compared, Closed, Pairs int64
	// Fast: the round began as a requested fast round.
	Fast bool
	// Asked is when a fast round was last requested, in microseconds of Redis's clock. Serving is its value when the round began,
	// Served its value when the last complete round began.
	Asked, Serving, Served int64
	// Completed is when the last complete round ended, Took how long it took, and Gaps how many gaps it closed.
	Completed time.Time
	Took      time.Duration
	Gaps      int64
	// Indexed is when the whole index was last compared.
	Indexed time.Time
	// Primaries names the primaries that were seen last; see redisconn.IdentifyPrimaries.
	Primaries string
}

// WantsFastRound reports whether a fast round was requested and no complete round has begun since.
func (c Comparison) WantsFastRound() bool { return c.Asked > c.Served }

// Comparison reads the progress of the comparison. Values that cannot be read count as absent: the round then begins again.
func (s *Store) Comparison(ctx context.Context) (Comparison, error) {
	m, err := s.rdb.HGetAll(ctx, s.keys.Config(keys.ConfigComparison)).Result()
	if err != nil {
		return Comparison{}, wrapError(err, "read the progress of the comparison")
	}
	asked, err := s.rdb.Get(ctx, s.keys.Config(keys.ConfigFastRound)).Int64()
	var odd *strconv.NumError
	if err != nil && !errors.Is(err, redis.Nil) && !errors.As(err, &odd) && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return Comparison{}, wrapError(err, "read when a fast round was requested")
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

// SaveComparison writes the progress of the comparison, except Asked, which RequestFastRound writes.
func (s *Store) SaveComparison(ctx context.Context, c Comparison) error {
	fast := "0"
	if c.Fast {
		fast = "1"
	}
	err := s.rdb.HSet(ctx, s.keys.Config(keys.ConfigComparison),
		"cursor", c.Cursor, "started", toMillis(c.Started), "compared", c.Compared, "closed", c.Closed, "pairs", c.Pairs, "fast", fast,
		"serving", c.Serving, "served", c.Served,
		"completed", toMillis(c.Completed), "took", c.Took.Milliseconds(), "gaps", c.Gaps, "indexed", toMillis(c.Indexed), "primaries", c.Primaries).Err()
	return wrapError(err, "write the progress of the comparison")
}

// RequestFastRound requests one fast round of the comparison, from its start, and returns the time of the request. Any process
// may call it at any time; one round serves all requests that were made before it began.
func (s *Store) RequestFastRound(ctx context.Context) (int64, error) {
	n, err := askRound.run(ctx, s.rdb, []string{s.keys.Config(keys.ConfigFastRound)}).Int64()
	return n, wrapError(err, "request a fast round of the comparison")
}

// TenantSide is the tenant's side of a pair, as the comparison reads it.
type TenantSide struct {
	// Known is false for a tenant that was never reported.
	Known bool
	// Top is the highest sequence assigned, FanoutPending that the record has the mark of a fan-out.
	Top           int64
	FanoutPending bool
	// Indexed: the tenant's index holds the app.
	Indexed bool
	// Unreadable: the record is of another version; the pair cannot be compared.
	Unreadable bool
}

// ReadTenantSides reads the tenants' sides of pairs of an app, in the order of ids, and Redis's clock. It takes one round trip
// for each pipelineMax commands.
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
			return nil, time.Time{}, wrapError(err, "read Redis's clock")
		}
		if now.IsZero() {
			now = at
		}
		for i, id := range chunk {
			if out[start+i], err = decodeTenantSide(records[i], listed[i]); err != nil {
				return nil, time.Time{}, wrapError(err, "read the side of tenant %s", id)
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

// ReadIndexPage lists tenants that have an index of approvals, in no order, from about count keys of Redis. Each tenant is listed
// at least once in a walk while it has an index. An empty cursor starts; an empty next one ends. The walk scans every key of the
// database, also those of other services. In a Cluster the primaries are walked one after the other.
func (s *Store) ReadIndexPage(ctx context.Context, cursor string, count int64) (ids []tenant.ID, next string, err error) {
	before, after := s.keys.IndexPattern()
	scan := func(rdb redis.Cmdable, at string) (string, error) {
		from, err := strconv.ParseUint(at, 10, 64)
		if at != "" && err != nil {
			from = 0 // not one of our cursors: from the start
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
		return nil, "", nil // the node left the Cluster
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

// escapeGlob escapes the special characters of a Redis pattern.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}

// AddPendingFanouts adds tenants to the list of pending fan-outs.
func (s *Store) AddPendingFanouts(ctx context.Context, ids []tenant.ID) error {
	return s.addPendingFanouts(ctx, s.durable, ids)
}

// RaiseSequence assigns a new sequence to a tenant whose record was read as v, if an app knows a higher sequence than the record.
// The new sequence is above both, and the tenant's state is deposited again for every app that approved it. It reports whether it
// wrote: it does not if the tenant was written since, or was never reported. The tenant is listed before and after, as for an
// accepted change.
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

// listChangedSlots lists the slots of a record that have a change, in the order of their sequences.
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

// encodeWithoutID encodes a change as it is stored, without its id.
func encodeWithoutID(c tenant.Change) string {
	c.ID = ""
	return strings.TrimPrefix(delivery.EncodeChange(c), `{"v":1,"i":""`)
}

// CollectUnfinishedApprovals lists the approvals that calls are changing, of the limit oldest calls; complete is false if there
// are more. Errors: ErrUnreadable, together with those that could be read.
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
