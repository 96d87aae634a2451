package service_test

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/service"
)

// examine maps each check to what it came to.
func examine(ctx context.Context, c *config.Config) map[string]service.CheckResult {
	out := map[string]service.CheckResult{}
	for _, e := range service.ExamineDependencies(ctx, c) {
		out[e.Check] = e
	}
	return out
}

func TestExamine(t *testing.T) {
	t.Parallel()
	bad := redistest.Start(t, "--maxmemory-policy", "allkeys-lru", "--maxmemory", "1gb")
	good := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	c := &config.Config{}
	c.Redis.URL, c.SMTP.Disabled = secret.New("redis://"+bad.Addr), true
	for check, want := range map[string]string{
		"redis": "ok", "redis_version": "ok", "redis_eviction": "failed", "redis_persistence": "failed", "redis_role": "ok", "redis_mode": "ok",
		"redis_memory": "ok", "redis_clock": "ok", "redis_scripts": "ok", "redis_rights": "ok", "smtp": "skipped", "guard": "ok",
	} {
		if e := examine(t.Context(), c)[check]; string(e.Result) != want || e.Detail == "" || want == "failed" && e.Advice == "" {
			t.Errorf("%s: %+v, want %s", check, e, want)
		}
	}
	c.Redis.WaiveChecks = []string{"eviction", "persistence"}
	if found := examine(t.Context(), c); found["redis_eviction"].Result != service.Doubtful || !strings.Contains(found["redis_eviction"].Detail, "allkeys-lru") {
		t.Errorf("waived: %+v", found["redis_eviction"])
	}
	if err := bad.Client(t).ConfigSet(t.Context(), "appendonly", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	if found := examine(t.Context(), c)["redis_persistence"]; found.Result != service.Doubtful || !strings.Contains(found.Advice, "always") {
		t.Errorf("a flush every second: %+v", found)
	}
	c.Redis.URL, c.Guard.AllowCIDRs = secret.New("redis://"+good.Addr), []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	found := examine(t.Context(), c)
	if e := found["redis_persistence"]; e.Result != service.Passed || found["guard"].Result != service.Doubtful {
		t.Errorf("persistence %+v, guard %+v", e, found["guard"])
	}
	if n := good.Client(t).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("it left %d keys behind", n)
	}
	c.Redis.URL = secret.New("redis+cluster://" + good.Addr)
	if e := examine(t.Context(), c)["redis"]; e.Result != service.Failed || !strings.Contains(e.Detail, "no node of a Cluster") {
		t.Errorf("the wrong mode: %+v", e)
	}
	good.Freeze()
	defer good.Thaw()
	c.Redis.URL = secret.New("redis://" + good.Addr)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if e := examine(ctx, c)["redis"]; e.Result != service.Failed {
		t.Errorf("a silent server: %+v", e)
	}
}

// A user that may not run scripts is told so, and that alone.
func TestExamineWithoutScripts(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	if err := p.Client(t).Do(t.Context(), "ACL", "SETUSER", "poor", "on", ">secret", "~*", "+@all", "-@scripting").Err(); err != nil {
		t.Fatal(err)
	}
	c := &config.Config{}
	c.Redis.URL, c.Redis.Username, c.Redis.Password, c.SMTP.Disabled = secret.New("redis://"+p.Addr), "poor", secret.New("secret"), true
	found := examine(t.Context(), c)
	if e := found["redis_scripts"]; e.Result != service.Failed || !strings.Contains(e.Advice, "EVAL") || found["redis_latency"].Result == service.Failed {
		t.Errorf("scripts %+v, latency %+v", e, found["redis_latency"])
	}
}

// TestExamineRedis: what doctor finds at servers that are arranged badly, each on a real one.
func TestExamineRedis(t *testing.T) {
	t.Parallel()
	plain := redistest.Start(t, "--appendonly", "yes")
	replica := redistest.StartReplica(t, plain)
	sentinel := redistest.StartSentinels(t, plain, 1).Addrs[0]
	if err := plain.Client(t).Do(t.Context(), "ACL", "SETUSER", "few", "on", ">pw", "~*", "&*", "+@all", "-hset", "-zadd").Err(); err != nil {
		t.Fatal(err)
	}
	pair := redistest.NewAuthority(t, 10*24*time.Hour)
	ended := redistest.NewAuthority(t, -time.Minute)
	serve := func(a redistest.Authority) string {
		port, err := redistest.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		redistest.Start(t, "--tls-port", strconv.Itoa(port), "--tls-cert-file", a.Cert, "--tls-key-file", a.Key, "--tls-ca-cert-file", a.CA)
		return "rediss://127.0.0.1:" + strconv.Itoa(port)
	}
	cluster := redistest.StartCluster(t, 3, false)
	for name, tt := range map[string]struct {
		url    string
		tls    config.RedisTLS
		check  string
		result service.CheckStatus
		says   []string
	}{
		"Replica":    {"redis://" + replica.Addr, config.RedisTLS{}, "redis_role", service.Failed, []string{"read-only replica", "redis.url must lead to the primary"}},
		"Sentinel":   {"redis://" + sentinel, config.RedisTLS{}, "redis_mode", service.Failed, []string{"is a sentinel", "use redis+sentinel://"}},
		"Node":       {"redis://" + cluster.Primaries[0].Addr, config.RedisTLS{}, "redis_mode", service.Failed, []string{"node of a Cluster", "use redis+cluster://"}},
		"NoSentinel": {"redis+sentinel://" + plain.Addr + "/main", config.RedisTLS{}, "redis", service.Failed, []string{"are no sentinels"}},
		"Rights":     {"redis://few:pw@" + plain.Addr, config.RedisTLS{}, "redis_rights", service.Failed, []string{"lacks +hset +zadd", "ACL SETUSER", "docs/security.md"}},
		"Slots":      {cluster.URL(), config.RedisTLS{}, "redis_slots", service.Passed, []string{"16384 of 16384"}},
		"Certificate": {
			serve(pair),
			config.RedisTLS{CA: pair.CA, Cert: pair.Cert, Key: pair.Key},
			"redis_certificates", service.Doubtful,
			[]string{"that of the server ends on 20", "ours on 20", "Renew the server's certificate"},
		},
		"CertificateThatEnded": {serve(ended), config.RedisTLS{CA: ended.CA}, "redis", service.Failed, []string{`"CN=redis", ended on 20`, "renew it on the server"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &config.Config{}
			c.Redis.URL, c.Redis.TLS, c.SMTP.Disabled = secret.New(tt.url), tt.tls, true
			c.Redis.Prefix = "lamplighter"
			e := examine(t.Context(), c)[tt.check]
			said := e.Detail + " " + e.Advice
			for _, s := range tt.says {
				if !strings.Contains(said, s) {
					t.Errorf("does not say %q", s)
				}
			}
			if e.Result != tt.result || t.Failed() {
				t.Errorf("%s: %+v, want %s", tt.check, e, tt.result)
			}
		})
	}
}
