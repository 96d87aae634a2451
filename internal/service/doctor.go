package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// CheckStatus is what one check came to.
type CheckStatus string

// The closed set of results.
const (
	// Passed: nothing has to be done.
	Passed CheckStatus = "ok"
	// Doubtful: it works, but the operator should look at it.
	Doubtful CheckStatus = "warning"
	// Failed: serve would not work, or would not be safe.
	Failed CheckStatus = "failed"
	// Skipped: not checked, because an earlier check failed or by the settings.
	Skipped CheckStatus = "skipped"
)

// CheckResult is one check of an examination.
type CheckResult struct {
	Check  string      `json:"check"`
	Result CheckStatus `json:"result"`
	// Detail says what was found. Advice says what to change, empty when nothing has to be.
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"`
}

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

// ExamineDependencies checks what serve needs with these settings: Redis, the mail server and the guard. It ends with
// ctx. It writes only a lease, which it releases.
func ExamineDependencies(ctx context.Context, c *config.Config) []CheckResult {
	out := examineRedis(ctx, c)
	return append(out, examineMail(ctx, c.SMTP), examineGuard(c.Guard))
}

func examineRedis(ctx context.Context, c *config.Config) []CheckResult {
	failed := func(err error) []CheckResult {
		err = redisconn.Explain(err)
		return []CheckResult{{
			Check: "redis", Result: Failed, Detail: err.Error(),
			Advice: "Start Redis, or correct redis.url, redis.username, redis.password and redis.tls.*; nothing else of Redis could be checked.",
		}}
	}
	s := &Service{cfg: *c}
	o := s.redisOptions()
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
	out = append(out, judgeRedis(report, s.waivedChecks())...)
	out = append(out, examineLatency(ctx, rdb), examineScripts(ctx, rdb, c.Redis.Prefix), examineRights(ctx, rdb, c.Redis.Prefix))
	if address.Mode == redisconn.Cluster {
		out = append(out, examineSlots(ctx, rdb))
	}
	if address.TLS {
		out = append(out, examineCertificates(o, &ends, time.Now()))
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

func examineLatency(ctx context.Context, rdb redis.UniversalClient) CheckResult {
	e := CheckResult{Check: "redis_latency", Result: Passed}
	var took []time.Duration
	for range latencyTries {
		start := time.Now()
		if err := rdb.Ping(ctx).Err(); err != nil {
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

// examineScripts runs two of the service's own scripts on a separate key.
func examineScripts(ctx context.Context, rdb redis.UniversalClient, prefix string) CheckResult {
	store, err := newLeaseStore(rdb, prefix)
	holder, held := uuid.NewString(), false
	if err == nil {
		held, err = store.TakeLease(ctx, "doctor", holder, scriptWithin)
	}
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

// newLeaseStore returns a store for leases only: its key encrypts nothing.
func newLeaseStore(rdb redis.UniversalClient, prefix string) (*registry.Store, error) {
	text, err := secret.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := secret.ParseKey(text.Reveal())
	if err != nil {
		return nil, err
	}
	return registry.New(rdb, registry.Options{Keys: keys.New(prefix), Keyring: secret.NewKeyring(key)}), nil
}

func examineMail(ctx context.Context, c config.SMTP) CheckResult {
	e := CheckResult{Check: "smtp", Result: Passed, Detail: fmt.Sprintf("%s answers on port %d and accepts the login", c.Host, c.Port)}
	switch {
	case c.Disabled:
		return CheckResult{Check: "smtp", Result: Skipped, Detail: "smtp.disabled is set: no mails are sent when endpoints fail"}
	case c.Host == "":
		return CheckResult{Check: "smtp", Result: Skipped, Detail: "smtp.host is not set"}
	}
	transport, err := NewSMTP(c, nil)
	if err == nil {
		defer transport.Close()
		err = transport.CheckLogin(ctx)
	}
	if err != nil {
		e.Result, e.Detail, e.Advice = Failed, err.Error(), "lamplighter mail test checks it stage by stage. See smtp.host, smtp.port, smtp.tls, smtp.username and smtp.password."
	}
	return e
}

func examineGuard(c config.Guard) CheckResult {
	e := CheckResult{Check: "guard", Result: Passed, Detail: "only public addresses are called, by https"}
	var open []string
	if c.AllowHTTP {
		open = append(open, "http is allowed")
	}
	if len(c.AllowCIDRs) > 0 {
		open = append(open, fmt.Sprintf("%d networks are allowed that are blocked otherwise", len(c.AllowCIDRs)))
	}
	if len(open) > 0 {
		e.Result, e.Detail = Doubtful, strings.Join(open, "; ")
		e.Advice = "Partners' URLs may lead there: keep guard.allow_cidrs and guard.allow_http for closed networks."
	}
	return e
}
