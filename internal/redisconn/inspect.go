package redisconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// Check is the name of a safety check, as in redis.waive_checks.
type Check string

// The closed set of checks.
const (
	// CheckVersion: Redis is 6.2 or newer.
	CheckVersion Check = "version"
	// CheckEviction: Redis refuses writes when full instead of dropping keys.
	CheckEviction Check = "eviction"
	// CheckPersistence: a restart of Redis does not lose all data.
	CheckPersistence Check = "persistence"
	// CheckRole: the server accepts writes. It cannot be waived.
	CheckRole Check = "role"
	// CheckMode: the server is arranged as redis.url says. It cannot be waived.
	CheckMode Check = "mode"
	// CheckMemory: Redis is nearly full. It never affects readiness.
	CheckMemory Check = "memory"
)

// Checks lists the closed set.
func Checks() []Check {
	return []Check{CheckVersion, CheckEviction, CheckPersistence, CheckRole, CheckMode, CheckMemory}
}

const noEviction = "noeviction"

// Known says whether a fact could be determined.
type Known uint8

// The closed set.
const (
	// Unknown: Redis, or its access rules, do not show it.
	Unknown Known = iota
	No
	Yes
)

// Report is what a server says about itself. For a Cluster it is the worst of all primaries: the oldest version, the first policy
// that is not noeviction, and persistence only if all have it.
type Report struct {
	// Version is the version, such as "7.0.15", empty when unknown.
	Version string
	// MaxmemoryPolicy is empty when unknown.
	MaxmemoryPolicy string
	// AOF says whether the append-only file is on; AOFFsync is always, everysec, no, or empty.
	AOF      Known
	AOFFsync string
	// Snapshots says whether save points for RDB snapshots are set.
	Snapshots Known
	// Loading is true while a server is still reading its data and answers nothing else.
	Loading bool
	// WriteFailing is true when the last append or rewrite did not reach the disk.
	WriteFailing bool
	// ReadOnly is true for a replica.
	ReadOnly bool
	// Misplaced describes how the server's arrangement differs from redis.url; empty if it does not.
	Misplaced string
	// MemoryUsed and MemoryLimit are bytes; a limit of 0 means none. For a Cluster they are those of the fullest node.
	MemoryUsed, MemoryLimit int64
	// Skew is how far this machine's clock is ahead of the server's.
	Skew time.Duration

	// mode is the field redis_mode of INFO.
	mode string
}

// Problem is a failed check.
type Problem struct {
	Check Check
	// Explanation says what is wrong and what to do.
	Explanation string
}

// Inspect reads the reports of all primaries. What the access rules hide stays unknown; an error means that a server did not
// answer at all.
func Inspect(ctx context.Context, rdb redis.UniversalClient) (Report, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		r, err := inspectNode(ctx, rdb)
		return r.noteMisplacement(), explainError(err)
	}
	var mu sync.Mutex
	var reports []Report
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		r, err := inspectNode(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, r)
		return err
	})
	if err != nil {
		return Report{}, explainError(fmt.Errorf("inspect redis cluster: %w", err))
	}
	if len(reports) == 0 {
		return Report{}, errors.New("inspect redis cluster: no primary found")
	}
	worst := reports[0]
	for _, r := range reports[1:] {
		worst = worst.mergeWorse(r)
	}
	return worst, nil
}

func inspectNode(ctx context.Context, rdb redis.Cmdable) (Report, error) {
	if err := pingNode(ctx, rdb); redis.IsLoadingError(err) {
		return Report{Loading: true}, nil
	} else if err != nil && !redis.IsPermissionError(err) && !redis.HasErrorPrefix(err, diskFailing) {
		return Report{}, fmt.Errorf("inspect redis: %w", err)
	}
	info := map[string]string{}
	for _, section := range []string{"server", "memory", "persistence", "replication"} {
		text, err := rdb.Info(ctx, section).Result()
		if isRefusal(err) {
			continue
		}
		if err != nil {
			return Report{}, fmt.Errorf("inspect redis: INFO %s: %w", section, err)
		}
		readInfo(info, text)
	}
	r := Report{
		Version: info["redis_version"], MaxmemoryPolicy: info["maxmemory_policy"], AOF: parseFlag(info["aof_enabled"]),
		Loading: info["loading"] == "1",
		WriteFailing: info["aof_last_write_status"] == "err" || info["aof_last_bgrewrite_status"] == "err" ||
			info["rdb_last_bgsave_status"] == "err",
		ReadOnly: info["role"] == "slave", MemoryUsed: parseNumber(info["used_memory"]), MemoryLimit: parseNumber(info["maxmemory"]),
	}
	r.mode = info["redis_mode"]
	before := time.Now()
	if clock, err := rdb.Time(ctx).Result(); err == nil {
		r.Skew = before.Add(time.Since(before) / 2).Sub(clock)
	}
	return r, r.readConfig(ctx, rdb)
}

// pingTries bounds how often a server is asked again that closed the connection without a word.
const pingTries = 5

// pingNode asks again after a reset. A server that refuses our certificate under TLS 1.3 says so after our handshake. If the first
// command is already on its way, the kernel answers it with a reset, and may drop the server's words.
func pingNode(ctx context.Context, rdb redis.Cmdable) error {
	var err error
	for range pingTries {
		err = rdb.Ping(ctx).Err()
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			return err
		}
	}
	return err
}

// readConfig adds the facts that INFO does not have. Hosted Redis often refuses CONFIG.
func (r *Report) readConfig(ctx context.Context, rdb redis.Cmdable) error {
	for _, name := range []string{"save", "appendonly", "appendfsync", "maxmemory-policy"} {
		answer, err := rdb.ConfigGet(ctx, name).Result()
		if isRefusal(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("inspect redis: CONFIG GET %s: %w", name, err)
		}
		value, ok := answer[name]
		if !ok {
			continue
		}
		switch name {
		case "save":
			r.Snapshots = knownFrom(strings.TrimSpace(value) != "")
		case "appendonly":
			r.AOF = knownFrom(value == "yes")
		case "appendfsync":
			r.AOFFsync = value
		default:
			r.MaxmemoryPolicy = value
		}
	}
	return nil
}

// isRefusal reports that the server answered, but refused: because of access rules, or because a substitute of Redis lacks the
// command.
func isRefusal(err error) bool {
	var answered redis.Error
	return errors.As(err, &answered) && !redis.IsLoadingError(err) && !redis.IsAuthError(err)
}

func readInfo(into map[string]string, text string) {
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			into[name] = value
		}
	}
}

func parseNumber(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0 // absent
	}
	return n
}

func parseFlag(s string) Known {
	switch s {
	case "1":
		return Yes
	case "0":
		return No
	default:
		return Unknown
	}
}

func knownFrom(b bool) Known {
	if b {
		return Yes
	}
	return No
}

// mergeWorse returns the worse facts of two nodes.
func (r Report) mergeWorse(o Report) Report {
	if isNewerVersion(r.Version, o.Version) {
		r.Version = o.Version
	}
	if r.MaxmemoryPolicy == noEviction || r.MaxmemoryPolicy == "" && o.MaxmemoryPolicy != noEviction {
		r.MaxmemoryPolicy = o.MaxmemoryPolicy
	}
	if r.Fullness() < o.Fullness() || r.MemoryLimit == 0 && r.MemoryUsed < o.MemoryUsed {
		r.MemoryUsed, r.MemoryLimit = o.MemoryUsed, o.MemoryLimit
	}
	r.ReadOnly = r.ReadOnly || o.ReadOnly
	if o.Skew.Abs() > r.Skew.Abs() {
		r.Skew = o.Skew
	}
	r.Misplaced = cmp.Or(r.Misplaced, o.Misplaced)
	if r.keepsData() == Yes && o.keepsData() != Yes || r.keepsData() == Unknown && o.keepsData() == No {
		r.AOF, r.AOFFsync, r.Snapshots = o.AOF, o.AOFFsync, o.Snapshots
	}
	r.Loading = r.Loading || o.Loading
	r.WriteFailing = r.WriteFailing || o.WriteFailing
	return r
}

func (r Report) keepsData() Known {
	switch {
	case r.AOF == Yes || r.Snapshots == Yes:
		return Yes
	case r.AOF == No && r.Snapshots == No:
		return No
	default:
		return Unknown
	}
}

// Problems lists the checks that fail, except those waived. An unknown fact is a problem too: the operator verifies it and waives
// the check.
func (r Report) Problems(waived ...Check) []Problem {
	var out []Problem
	add := func(c Check, wrong bool, words string) {
		if wrong && !slices.Contains(waived, c) {
			out = append(out, Problem{Check: c, Explanation: words})
		}
	}
	if r.Loading {
		return []Problem{{Explanation: "Redis is still loading its data: wait until it has finished"}}
	}
	if r.Misplaced != "" {
		return []Problem{{Check: CheckMode, Explanation: r.Misplaced}}
	}
	if r.ReadOnly {
		out = append(out, Problem{Check: CheckRole, Explanation: readOnlyText})
	}
	const hidden = " (its access rules hide it: allow INFO and CONFIG|GET, or look yourself and add the check to redis.waive_checks)"
	add(CheckVersion, r.Version == "", "the version of Redis is unknown"+hidden)
	add(CheckVersion, r.Version != "" && isNewerVersion("6.2", r.Version), "Redis "+r.Version+" is too old: use 6.2 or newer")
	add(CheckEviction, r.MaxmemoryPolicy == "", "maxmemory-policy is unknown"+hidden)
	add(CheckEviction, r.MaxmemoryPolicy != "" && r.MaxmemoryPolicy != noEviction,
		"maxmemory-policy is "+r.MaxmemoryPolicy+": Redis would drop undelivered changes when full; set it to noeviction")
	add(CheckPersistence, r.keepsData() == Unknown, "whether Redis keeps its data over a restart is unknown"+hidden)
	add(CheckPersistence, r.keepsData() == No, "Redis keeps nothing over a restart: switch on appendonly (best with appendfsync always), or at least snapshots")
	add(CheckPersistence, r.WriteFailing, "Redis' last write to disk failed: look at its disk and log")
	return out
}

// isNewerVersion reports whether version a is newer than b, by the numbers between dots. An empty version is older than any.
func isNewerVersion(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		x, y := parseVersionPart(as, i), parseVersionPart(bs, i)
		if x != y {
			return x > y
		}
	}
	return false
}

func parseVersionPart(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, err := strconv.Atoi(parts[i])
	if err != nil {
		return 0
	}
	return n
}
