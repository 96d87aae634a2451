package redisconn_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// gathered are the values of a registry by name and check.
func gathered(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := []string{strings.TrimPrefix(f.GetName(), "lamplighter_redis_")}
			for _, l := range m.GetLabel() {
				name = append(name, l.GetValue())
			}
			out[strings.Join(name, "/")] = m.GetGauge().GetValue()
		}
	}
	return out
}

// watch runs a monitor until its test ends.
func watch(t *testing.T, rdb redis.UniversalClient, waived ...redisconn.Check) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m := redisconn.NewMonitor(rdb, reg, slog.New(slog.DiscardHandler), waived...)
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	redistest.Eventually(t, 10*time.Second, "a first look", func() bool { return gathered(t, reg)["inspected_timestamp_seconds"] > 0 })
	return reg
}

func TestMonitorExportsWhatIsUnsafe(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--maxmemory-policy", "allkeys-lru", "--maxmemory", "2mb")
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr)})
	for i := range 12 { // fill it beyond 80 %, evicting whatever is in the way
		if err := rdb.Set(t.Context(), strconv.Itoa(i), strings.Repeat("x", 100_000), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	got := gathered(t, watch(t, rdb, redisconn.CheckPersistence))
	for name, want := range map[string]float64{
		"check_failing/eviction": 1, "check_failing/memory": 1, "check_failing/persistence": 0,
		"check_failing/version": 0, "check_failing/role": 0, "check_failing/mode": 0, "memory_limit_bytes": 2 << 20,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v, want %v", name, v, want)
		}
	}
	if got["memory_used_bytes"] < 1<<20 || math.Abs(got["clock_skew_seconds"]) > 1 {
		t.Errorf("metrics = %v", got)
	}
}

func TestMonitorSeesASafeServer(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--appendonly", "yes")
	got := gathered(t, watch(t, client(t, redisconn.Options{URL: address("redis://" + p.Addr)})))
	for _, c := range redisconn.Checks() {
		if v, ok := got["check_failing/"+string(c)]; !ok || v != 0 {
			t.Errorf("%s = %v", c, v)
		}
	}
}

// Each wrong server is named in words, and says whether waiting can help.
func TestWrongServersAreNamed(t *testing.T) {
	t.Parallel()
	pair := redistest.NewAuthority(t, time.Hour)
	plain := redistest.Start(t)
	ended, endedPort := redistest.NewAuthority(t, -time.Minute), freePort(t)
	redistest.Start(t, "--tls-port", endedPort, "--tls-cert-file", ended.Cert, "--tls-key-file", ended.Key, "--tls-ca-cert-file", ended.CA)
	watch := redistest.StartSentinels(t, plain, 1).Addrs[0]
	tlsPort := freePort(t)
	redistest.Start(t, "--tls-port", tlsPort, "--tls-cert-file", pair.Cert, "--tls-key-file", pair.Key, "--tls-ca-cert-file", pair.CA)
	node := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-port", freePort(t))
	host, port, _ := strings.Cut(plain.Addr, ":")
	replica := redistest.Start(t, "--replicaof", host+" "+port)
	admin := client(t, redisconn.Options{URL: address("redis://" + plain.Addr)})
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-info").Err(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		o         redisconn.Options
		want      string
		permanent bool
	}{
		"ClusterURL":           {redisconn.Options{URL: address("redis+cluster://" + plain.Addr)}, "use redis://", true},
		"ClusterURLOfSentinel": {redisconn.Options{URL: address("redis+cluster://" + watch)}, "use redis://", true},
		"SentinelURL":          {redisconn.Options{URL: address("redis+sentinel://" + plain.Addr + "/main")}, "are no sentinels", true},
		"MasterName":           {redisconn.Options{URL: address("redis+sentinel://" + watch + "/other")}, "know no primary by the name", true},
		"SentinelsDiffer":      {redisconn.Options{URL: address("redis+sentinel://" + watch + "," + plain.Addr + "/other")}, "redis.url", false},
		"SentinelAway":         {redisconn.Options{URL: address("redis+sentinel://" + watch + ",127.0.0.1:1/other")}, "know no primary by the name", true},
		"OneSentinel":          {redisconn.Options{URL: address("redis://" + watch)}, "the server is a sentinel", true},
		"Ended": {
			redisconn.Options{URL: address("rediss://127.0.0.1:" + endedPort), CAFile: ended.CA},
			`the certificate of redis, "CN=redis", ended on ` + time.Now().Add(-time.Minute).UTC().Format("2006-01-02T"), true,
		},
		"NodeOfOne":    {redisconn.Options{URL: address("redis://" + node.Addr)}, "use redis+cluster://", true},
		"Replica":      {redisconn.Options{URL: address("redis://" + replica.Addr)}, "read-only replica", false},
		"Password":     {redisconn.Options{URL: address("redis://app:hunter2@" + plain.Addr)}, "refuses the user or the password", true},
		"Unknown":      {redisconn.Options{URL: address("rediss://127.0.0.1:" + tlsPort)}, "is not trusted", true},
		"NoClientCert": {redisconn.Options{URL: address("rediss://127.0.0.1:" + tlsPort), CAFile: pair.CA}, "redis.tls.cert", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report, err := redisconn.Inspect(t.Context(), client(t, tc.o))
			if err == nil {
				err = report.CheckUsable()
			}
			var known *redisconn.ConnectError
			if !errors.As(err, &known) || !strings.Contains(err.Error(), tc.want) || known.Permanent != tc.permanent {
				t.Errorf("error %v (%+v), want one with %q", err, known, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password shows: %v", err)
			}
		})
	}
}

func TestSentinelIsNoServer(t *testing.T) {
	t.Parallel()
	r := redisconn.Report{Misplaced: "the server is a sentinel"}
	if err := r.CheckUsable(); err == nil || !strings.Contains(err.Error(), "sentinel") {
		t.Errorf("error %v", err)
	}
	if got := splitCommand(r.Problems(redisconn.CheckMode)); !strings.HasPrefix(got, "mode: the server is a sentinel") {
		t.Errorf("a misplaced server cannot be waived: %q", got)
	}
}

func TestClientCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	pair := redistest.NewAuthority(t, time.Hour)
	o := redisconn.Options{URL: address("rediss://h"), CertFile: pair.Cert, KeyFile: pair.Key}
	c, err := redisconn.NewCertificateCollector(o)
	if err != nil {
		t.Fatal(err)
	}
	before := testutil.ToFloat64(c)
	if left := time.Until(time.Unix(int64(before), 0)); left < 50*time.Minute || left > time.Hour {
		t.Errorf("ends in %v", left)
	}
	if err := os.WriteFile(pair.Key, []byte("half a renewal"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(c); got != before {
		t.Errorf("half a renewal: %v, want the old %v", got, before)
	}
	newer := redistest.NewAuthority(t, 48*time.Hour)
	for from, to := range map[string]string{newer.Cert: pair.Cert, newer.Key: pair.Key} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := testutil.ToFloat64(c); got-before < 46*3600 {
		t.Errorf("renewed: ends at %v, before %v", got, before)
	}
	none, err := redisconn.NewCertificateCollector(redisconn.Options{})
	if err != nil || !math.IsInf(testutil.ToFloat64(none), 1) {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestEndedClientCertificateIsRefused(t *testing.T) {
	t.Parallel()
	pair := redistest.NewAuthority(t, -time.Minute)
	_, err := redisconn.New(redisconn.Options{URL: address("rediss://h"), CertFile: pair.Cert, KeyFile: pair.Key})
	if err == nil || !strings.Contains(err.Error(), "ended on") || !strings.Contains(err.Error(), filepath.Base(pair.Cert)) {
		t.Errorf("error %v", err)
	}
}
