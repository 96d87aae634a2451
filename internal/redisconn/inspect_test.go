package redisconn_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

func inspect(t *testing.T, rdb redis.UniversalClient) redisconn.Report {
	t.Helper()
	r, err := redisconn.Inspect(t.Context(), rdb)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func splitCommand(problems []redisconn.Problem) string {
	var all []string
	for _, p := range problems {
		all = append(all, string(p.Check)+": "+p.Explanation)
	}
	return strings.Join(all, "\n")
}

func TestInspectAnUnsafeServer(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr)})
	r := inspect(t, rdb)
	got := r.Problems()
	if len(got) != 2 || got[0].Check != redisconn.CheckEviction || got[1].Check != redisconn.CheckPersistence {
		t.Fatalf("problems:\n%s", splitCommand(got))
	}
	if !strings.Contains(got[0].Explanation, "allkeys-lru") || !strings.Contains(got[1].Explanation, "appendonly") {
		t.Errorf("words:\n%s", splitCommand(got))
	}
	if left := r.Problems(redisconn.CheckEviction, redisconn.CheckPersistence); len(left) != 0 {
		t.Errorf("waived, and still:\n%s", splitCommand(left))
	}
	ctx := t.Context()
	if err := rdb.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.ConfigSet(ctx, "save", "60 1").Err(); err != nil {
		t.Fatal(err)
	}
	if left := inspect(t, rdb).Problems(); len(left) != 0 {
		t.Errorf("with snapshots and noeviction:\n%s", splitCommand(left))
	}
}

func TestInspectASafeServer(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	r := inspect(t, client(t, redisconn.Options{URL: address("redis://" + p.Addr)}))
	if left := r.Problems(); len(left) != 0 {
		t.Errorf("problems:\n%s", splitCommand(left))
	}
	if r.AOF != redisconn.Yes || r.AOFFsync != "always" || r.Snapshots != redisconn.No || r.MaxmemoryPolicy != "noeviction" || r.Version == "" {
		t.Errorf("report = %+v", r)
	}
}

func TestInspectBehindAccessRules(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--appendonly", "yes")
	admin := client(t, redisconn.Options{URL: address("redis://" + p.Addr)})
	acl := func(rule ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "app", "on", ">pw", "~*"}, rule...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	acl("+@all", "-config")
	app := client(t, redisconn.Options{URL: address("redis://app:pw@" + p.Addr)})
	if left := inspect(t, app).Problems(); len(left) != 0 {
		t.Errorf("INFO alone should do:\n%s", splitCommand(left))
	}
	acl("-info")
	got := inspect(t, app).Problems()
	if len(got) != 3 || strings.Count(splitCommand(got), "redis.waive_checks") != 3 {
		t.Errorf("problems when everything is hidden:\n%s", splitCommand(got))
	}
}

func TestInspectMiniredis(t *testing.T) {
	t.Parallel()
	r := inspect(t, redistest.Mini(t))
	if left := r.Problems(redisconn.CheckEviction, redisconn.CheckPersistence, redisconn.CheckVersion); len(left) != 0 {
		t.Errorf("problems:\n%s", splitCommand(left))
	}
}

func TestInspectNobody(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := client(t, redisconn.Options{URL: address("redis://nobody:hunter2@" + p.Addr)})
	_, err := redisconn.Inspect(t.Context(), rdb)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("with a wrong password: %v", err)
	}
	p.Kill()
	if _, err := redisconn.Inspect(t.Context(), rdb); err == nil {
		t.Error("a dead server was inspected")
	}
}

func TestProblemsInWords(t *testing.T) {
	t.Parallel()
	safe := redisconn.Report{Version: "6.2.0", MaxmemoryPolicy: "noeviction", AOF: redisconn.Yes}
	for name, tc := range map[string]struct {
		change func(*redisconn.Report)
		want   string
	}{
		"Safe":         {func(*redisconn.Report) {}, ""},
		"Old":          {func(r *redisconn.Report) { r.Version = "6.0.16" }, "version: Redis 6.0.16 is too old"},
		"MuchNewer":    {func(r *redisconn.Report) { r.Version = "10.0" }, ""},
		"Loading":      {func(r *redisconn.Report) { *r = redisconn.Report{Loading: true} }, "still loading"},
		"WriteFailing": {func(r *redisconn.Report) { r.WriteFailing = true }, "persistence: Redis' last write to disk failed"},
		"SnapshotsDo":  {func(r *redisconn.Report) { r.AOF, r.Snapshots = redisconn.No, redisconn.Yes }, ""},
		"HalfKnown":    {func(r *redisconn.Report) { r.AOF = redisconn.No }, "is unknown"},
	} {
		r := safe
		tc.change(&r)
		got := splitCommand(r.Problems())
		if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
