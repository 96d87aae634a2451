package doctor_test

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/doctor"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// tlsFiles are the files of a connection by TLS.
type tlsFiles struct{ ca, cert, key string }

// checkAll maps each check to what it came to.
func checkAll(ctx context.Context, d *doctor.Dependencies) map[string]doctor.CheckResult {
	out := map[string]doctor.CheckResult{}
	for _, e := range doctor.CheckDependencies(ctx, d) {
		out[e.Check] = e
	}
	return out
}

func TestCheckDependencies(t *testing.T) {
	t.Parallel()
	bad := redistest.Start(t, "--maxmemory-policy", "allkeys-lru", "--maxmemory", "1gb")
	good := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	d := &doctor.Dependencies{Redis: redisconn.Options{URL: secret.New("redis://" + bad.Addr)}, Mail: doctor.Mail{Disabled: true}}
	for check, want := range map[string]string{
		"redis": "ok", "redis_version": "ok", "redis_eviction": "failed", "redis_persistence": "failed", "redis_role": "ok", "redis_mode": "ok",
		"redis_memory": "ok", "redis_clock": "ok", "redis_scripts": "ok", "redis_rights": "ok", "smtp": "skipped", "guard": "ok",
	} {
		if e := checkAll(t.Context(), d)[check]; string(e.Result) != want || e.Detail == "" || want == "failed" && e.Advice == "" {
			t.Errorf("%s: %+v, want %s", check, e, want)
		}
	}
	d.Waived = []redisconn.Check{redisconn.CheckEviction, redisconn.CheckPersistence}
	if found := checkAll(t.Context(), d); found["redis_eviction"].Result != doctor.Doubtful || !strings.Contains(found["redis_eviction"].Detail, "allkeys-lru") {
		t.Errorf("waived: %+v", found["redis_eviction"])
	}
	if err := bad.Client(t).ConfigSet(t.Context(), "appendonly", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	if found := checkAll(t.Context(), d)["redis_persistence"]; found.Result != doctor.Doubtful || !strings.Contains(found.Advice, "always") {
		t.Errorf("a flush every second: %+v", found)
	}
	d.Redis.URL, d.Guard.AllowCIDRs = secret.New("redis://"+good.Addr), []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	found := checkAll(t.Context(), d)
	if e := found["redis_persistence"]; e.Result != doctor.Passed || found["guard"].Result != doctor.Doubtful {
		t.Errorf("persistence %+v, guard %+v", e, found["guard"])
	}
	if n := good.Client(t).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("it left %d keys behind", n)
	}
	d.Redis.URL = secret.New("redis+cluster://" + good.Addr)
	if e := checkAll(t.Context(), d)["redis"]; e.Result != doctor.Failed || !strings.Contains(e.Detail, "no node of a Cluster") {
		t.Errorf("the wrong mode: %+v", e)
	}
	good.Freeze()
	defer good.Thaw()
	d.Redis.URL = secret.New("redis://" + good.Addr)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if e := checkAll(ctx, d)["redis"]; e.Result != doctor.Failed {
		t.Errorf("a silent server: %+v", e)
	}
}

// A user that may not run scripts is told so, and that alone.
func TestCheckWithoutScripts(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	if err := p.Client(t).Do(t.Context(), "ACL", "SETUSER", "poor", "on", ">secret", "~*", "+@all", "-@scripting").Err(); err != nil {
		t.Fatal(err)
	}
	d := &doctor.Dependencies{
		Redis: redisconn.Options{URL: secret.New("redis://" + p.Addr), Username: "poor", Password: secret.New("secret")}, Mail: doctor.Mail{Disabled: true},
	}
	found := checkAll(t.Context(), d)
	if e := found["redis_scripts"]; e.Result != doctor.Failed || !strings.Contains(e.Advice, "EVAL") || found["redis_latency"].Result == doctor.Failed {
		t.Errorf("scripts %+v, latency %+v", e, found["redis_latency"])
	}
}

// TestCheckRedis: what doctor finds at servers that are arranged badly, each on a real one.
func TestCheckRedis(t *testing.T) {
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
		tls    tlsFiles
		check  string
		result doctor.CheckStatus
		says   []string
	}{
		"Replica":    {"redis://" + replica.Addr, tlsFiles{}, "redis_role", doctor.Failed, []string{"read-only replica", "redis.url must lead to the primary"}},
		"Sentinel":   {"redis://" + sentinel, tlsFiles{}, "redis_mode", doctor.Failed, []string{"is a sentinel", "use redis+sentinel://"}},
		"Node":       {"redis://" + cluster.Primaries[0].Addr, tlsFiles{}, "redis_mode", doctor.Failed, []string{"node of a Cluster", "use redis+cluster://"}},
		"NoSentinel": {"redis+sentinel://" + plain.Addr + "/main", tlsFiles{}, "redis", doctor.Failed, []string{"are no sentinels"}},
		"Rights":     {"redis://few:pw@" + plain.Addr, tlsFiles{}, "redis_rights", doctor.Failed, []string{"lacks +hset +zadd", "ACL SETUSER", "docs/security.md"}},
		"Slots":      {cluster.URL(), tlsFiles{}, "redis_slots", doctor.Passed, []string{"16384 of 16384"}},
		"Certificate": {
			serve(pair),
			tlsFiles{ca: pair.CA, cert: pair.Cert, key: pair.Key},
			"redis_certificates", doctor.Doubtful,
			[]string{"that of the server ends on 20", "ours on 20", "Renew the server's certificate"},
		},
		"CertificateThatEnded": {serve(ended), tlsFiles{ca: ended.CA}, "redis", doctor.Failed, []string{`"CN=redis", ended on 20`, "renew it on the server"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &doctor.Dependencies{
				Redis: redisconn.Options{URL: secret.New(tt.url), CAFile: tt.tls.ca, CertFile: tt.tls.cert, KeyFile: tt.tls.key}, Prefix: "lamplighter",
				Mail: doctor.Mail{Disabled: true},
			}
			e := checkAll(t.Context(), d)[tt.check]
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

// TestCheckMail: the login decides, and is not tried where the settings name no server.
func TestCheckMail(t *testing.T) {
	t.Parallel()
	refused := func(context.Context) error { return errors.New("the login was refused") }
	for name, tt := range map[string]struct {
		mail   doctor.Mail
		result doctor.CheckStatus
		detail string
	}{
		"Works":    {doctor.Mail{Host: "mx", Port: 25, CheckLogin: func(context.Context) error { return nil }}, doctor.Passed, "mx answers on port 25"},
		"Refused":  {doctor.Mail{Host: "mx", Port: 25, CheckLogin: refused}, doctor.Failed, "the login was refused"},
		"Disabled": {doctor.Mail{Disabled: true, Host: "mx"}, doctor.Skipped, "smtp.disabled"},
		"NoServer": {doctor.Mail{}, doctor.Skipped, "smtp.host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := checkAll(t.Context(), &doctor.Dependencies{Mail: tt.mail})["smtp"]
			if e.Result != tt.result || !strings.Contains(e.Detail, tt.detail) || (e.Result == doctor.Failed) != (e.Advice != "") {
				t.Errorf("%+v, want %s and %q", e, tt.result, tt.detail)
			}
		})
	}
}
