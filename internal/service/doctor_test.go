package service_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/service"
)

// examine maps each check to what it came to.
func examine(ctx context.Context, c *config.Config) map[string]service.Examined {
	out := map[string]service.Examined{}
	for _, e := range service.Examine(ctx, c) {
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
		"redis_memory": "ok", "redis_clock": "ok", "redis_scripts": "ok", "smtp": "skipped", "guard": "ok",
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
