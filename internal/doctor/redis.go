package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/registry"
)

const (
	// latencyTries is the number of round trips; their median is the latency.
	latencyTries = 21
	// latencyDoubtful and latencyFailed are limits of the median. An accepted change takes a few round trips in a
	// row, and a mailbox a few for each batch.
	latencyDoubtful = 5 * time.Millisecond
	latencyFailed   = 100 * time.Millisecond
	// skewDoubtful is more than clocks differ that are set by NTP.
	skewDoubtful = time.Second
	// scriptWithin is when the key of the script check expires if it cannot be removed.
	scriptWithin = 10 * time.Second
)

func checkRedis(ctx context.Context, d *Dependencies) []CheckResult {
	failed := func(err error) []CheckResult {
		err = redisconn.Explain(err)
		return []CheckResult{{
			Check: "redis", Result: Failed, Detail: err.Error(),
			Advice: "Start Redis, or correct redis.url, redis.username, redis.password and redis.tls.*; nothing else of Redis could be checked.",
		}}
	}
	o := d.Redis
	address, err := redisconn.ParseAddress(o.URL.Reveal())
	if err != nil {
		return failed(err)
	}
	var ends earliestExpiry
	o.Seen = ends.addCertificate
	rdb, err := redisconn.New(o)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = rdb.Close() }()
	report, err := redisconn.Inspect(ctx, rdb)
	if err != nil {
		return failed(err)
	}
	how := address.Mode.String() + " at " + strings.Join(address.Hosts, ", ")
	if address.TLS {
		how += ", with TLS"
	}
	out := []CheckResult{{Check: "redis", Result: Passed, Detail: how}}
	out = append(out, judgeRedis(report, d.Waived)...)
	out = append(out, checkLatency(func() error { return rdb.Ping(ctx).Err() }))
	out = append(out, checkScripts(ctx, registry.New(rdb, registry.Options{Keys: keys.New(d.Prefix), Keyring: noKeys{}})))
	out = append(out, judgeRights(redisconn.MissingRights(ctx, rdb, d.Prefix)))
	if address.Mode == redisconn.Cluster {
		out = append(out, judgeSlots(redisconn.CountServedSlots(ctx, rdb)))
	}
	if address.TLS {
		out = append(out, checkCertificates(o, &ends, time.Now()))
	}
	return out
}

// judgeRedis turns a report into one result per check.
func judgeRedis(r redisconn.Report, waived []redisconn.Check) []CheckResult {
	wrong := map[redisconn.Check]string{}
	for _, p := range append(r.Problems(), r.Warnings()...) {
		if wrong[p.Check] == "" {
			wrong[p.Check] = p.Explanation
		}
	}
	var out []CheckResult
	if words := wrong[""]; words != "" { // it is loading: nothing else can be said
		return []CheckResult{{Check: "redis_ready", Result: Failed, Detail: words}}
	}
	for _, c := range redisconn.Checks() {
		e := CheckResult{Check: "redis_" + string(c), Result: Passed, Detail: describePassed(r, c)}
		if words := wrong[c]; words != "" {
			e.Result = Failed
			e.Detail, e.Advice, _ = strings.Cut(words, ": ")
			switch {
			case c == redisconn.CheckMemory:
				e.Result = Doubtful
			case slices.Contains(waived, c):
				e.Result, e.Advice = Doubtful, "It is waived by redis.waive_checks."
			}
		} else if c == redisconn.CheckPersistence && (r.AOF != redisconn.Yes || r.AOFFsync != "always") {
			e.Result = Doubtful
			e.Advice = "A crash of Redis may lose its last writes: appendonly yes with appendfsync always loses nothing."
		}
		out = append(out, e)
	}
	clock := CheckResult{Check: "redis_clock", Result: Passed, Detail: fmt.Sprintf("this machine's clock is %v ahead of that of Redis", r.Skew.Round(time.Millisecond))}
	if r.Skew.Abs() > skewDoubtful {
		clock.Result, clock.Advice = Doubtful, "Set both clocks by NTP: tokens, signatures and retries depend on them."
	}
	return append(out, clock)
}

// describePassed states the finding of a passed check.
func describePassed(r redisconn.Report, c redisconn.Check) string {
	switch c {
	case redisconn.CheckVersion:
		return "Redis " + r.Version
	case redisconn.CheckEviction:
		return "maxmemory-policy is " + r.MaxmemoryPolicy
	case redisconn.CheckPersistence:
		if r.AOF == redisconn.Yes {
			return "append-only file, appendfsync " + cmp.Or(r.AOFFsync, "unknown")
		}
		return "snapshots alone"
	case redisconn.CheckRole:
		return "it accepts writes"
	case redisconn.CheckMode:
		return "its mode is the one of redis.url"
	default:
		if r.MemoryLimit == 0 {
			return fmt.Sprintf("%d MB used, no maxmemory", r.MemoryUsed>>20)
		}
		return fmt.Sprintf("%d of %d MB used", r.MemoryUsed>>20, r.MemoryLimit>>20)
	}
}

// checkLatency measures how long a ping takes.
func checkLatency(ping func() error) CheckResult {
	e := CheckResult{Check: "redis_latency", Result: Passed}
	var took []time.Duration
	for range latencyTries {
		start := time.Now()
		if err := ping(); err != nil {
			e.Result, e.Detail = Failed, redisconn.Explain(err).Error()
			return e
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	middle, worst := took[len(took)/2], took[len(took)-1]
	e.Detail = fmt.Sprintf("median %v of %d round trips, worst %v", middle.Round(time.Microsecond), latencyTries, worst.Round(time.Microsecond))
	switch {
	case middle > latencyFailed:
		e.Result, e.Advice = Failed, "Redis is too far away: run it in the same region and zone."
	case middle > latencyDoubtful:
		e.Result, e.Advice = Doubtful, "Deliveries wait for Redis: run it closer, or find what keeps it busy with redis-cli --latency and SLOWLOG."
	}
	return e
}

// checkScripts runs two of the service's own scripts on a separate key.
func checkScripts(ctx context.Context, store *registry.Store) CheckResult {
	holder := uuid.NewString()
	held, err := store.TakeLease(ctx, "doctor", holder, scriptWithin)
	if err == nil && held {
		err = store.ReleaseLease(ctx, "doctor", holder)
	}
	if err != nil {
		return CheckResult{
			Check: "redis_scripts", Result: Failed, Detail: redisconn.Explain(err).Error(),
			Advice: "The service works by Lua scripts: allow EVAL and EVALSHA, and the rights that docs/security.md lists.",
		}
	}
	return CheckResult{Check: "redis_scripts", Result: Passed, Detail: "a script read and wrote"}
}

// noKeys is for a store that only takes leases, of which nothing is encrypted.
type noKeys struct{ registry.Sealer }

// certificateSoon is how long before its end a certificate is reported, as by the alert.
const certificateSoon = 14 * 24 * time.Hour

// earliestExpiry records when the first of the servers' certificates ends.
type earliestExpiry struct {
	mu    sync.Mutex
	first time.Time
}

func (e *earliestExpiry) addCertificate(c *x509.Certificate) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.first.IsZero() || c.NotAfter.Before(e.first) {
		e.first = c.NotAfter
	}
}

func checkCertificates(o redisconn.Options, servers *earliestExpiry, now time.Time) CheckResult {
	e := CheckResult{Check: "redis_certificates", Result: Passed}
	own, err := redisconn.ClientCertificateExpiry(o)
	if err != nil {
		e.Result, e.Detail, e.Advice = Failed, err.Error(), "Renew the client certificate: a running process reads it again by itself."
		return e
	}
	servers.mu.Lock()
	first := servers.first
	servers.mu.Unlock()
	e.Detail = "that of the server ends on " + first.UTC().Format(time.DateOnly)
	if !own.IsZero() {
		e.Detail += ", ours on " + own.UTC().Format(time.DateOnly)
	}
	switch {
	case first.Sub(now) < certificateSoon:
		e.Result, e.Advice = Doubtful, "Renew the server's certificate, on every server and sentinel."
	case !own.IsZero() && own.Sub(now) < certificateSoon:
		e.Result, e.Advice = Doubtful, "Renew the files of redis.tls.cert and redis.tls.key: a running process reads them again by itself."
	}
	return e
}

// judgeRights judges the rights that the user lacks.
func judgeRights(missing []string, err error) CheckResult {
	e := CheckResult{Check: "redis_rights", Result: Passed, Detail: "the user has all rights that are needed"}
	switch {
	case err != nil:
		e.Result, e.Detail = Failed, err.Error()
	case len(missing) > 0:
		e.Result, e.Detail = Failed, "the user lacks "+strings.Join(missing, " ")
		e.Advice = "Give them with ACL SETUSER, on every server: docs/security.md has the whole command."
	}
	return e
}

// judgeSlots judges how many of a Cluster's hash slots are served.
func judgeSlots(served, all int, err error) CheckResult {
	e := CheckResult{Check: "redis_slots", Result: Passed}
	if err != nil {
		e.Result, e.Detail = Failed, err.Error()
		return e
	}
	e.Detail = fmt.Sprintf("%d of %d hash slots are served", served, all)
	if served < all {
		e.Result = Failed
		e.Advice = "Apps and tenants in the other slots are not served: see CLUSTER NODES, bring the failed primary back, or move its slots to another."
	}
	return e
}
