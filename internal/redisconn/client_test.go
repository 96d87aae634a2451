package redisconn_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func address(s string) secret.Text { return secret.New(s) }

func client(t *testing.T, o redisconn.Options) redis.UniversalClient {
	t.Helper()
	rdb, err := redisconn.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// roundTrip writes and reads through the client.
func roundTrip(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	ctx := t.Context()
	for i := range 20 {
		key := fmt.Sprintf("key%d", i)
		if err := rdb.Set(ctx, key, i, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := rdb.Get(ctx, key).Int(); err != nil || got != i {
			t.Fatalf("GET %s = %d, %v", key, got, err)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := redistest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

func TestSingleServer(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr + "/5"), ClientName: "lamplighter", PoolSize: 4})
	roundTrip(t, rdb)
	list, err := rdb.ClientList(t.Context()).Result()
	if err != nil || !strings.Contains(list, "name=lamplighter ") || !strings.Contains(list, " db=5 ") {
		t.Errorf("CLIENT LIST = %q, %v", list, err)
	}
	p.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := rdb.Ping(ctx).Err(); err == nil {
		t.Error("a killed server answered")
	}
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 10*time.Second, "the client finds the server again", func() bool { return rdb.Ping(t.Context()).Err() == nil })
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	admin := client(t, redisconn.Options{URL: address("redis://" + p.Addr)})
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">p@ss:/word", "~*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]redisconn.Options{
		"InURL":    {URL: address("redis://app:p%40ss%3A%2Fword@" + p.Addr)},
		"Apart":    {URL: address("redis://" + p.Addr), Username: "app", Password: address("p@ss:/word")},
		"Replaced": {URL: address("redis://other:wrong@" + p.Addr), Username: "app", Password: address("p@ss:/word")},
	} {
		if who, err := client(t, o).Do(t.Context(), "ACL", "WHOAMI").Text(); err != nil || who != "app" {
			t.Errorf("%s: WHOAMI = %q, %v", name, who, err)
		}
	}
	err := client(t, redisconn.Options{URL: address("redis://app:hunter2@" + p.Addr)}).Ping(t.Context()).Err()
	if !redis.IsAuthError(err) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("wrong password: %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	pair, port := redistest.NewAuthority(t, time.Hour), freePort(t)
	redistest.Start(t, "--tls-port", port, "--tls-cert-file", pair.Cert, "--tls-key-file", pair.Key, "--tls-ca-cert-file", pair.CA)
	url := address("rediss://127.0.0.1:" + port)
	roundTrip(t, client(t, redisconn.Options{URL: url, CAFile: pair.CA, CertFile: pair.Cert, KeyFile: pair.Key}))
	if err := client(t, redisconn.Options{URL: url, CertFile: pair.Cert, KeyFile: pair.Key}).Ping(t.Context()).Err(); err == nil {
		t.Error("a certificate of an unknown authority was trusted")
	}
	if err := client(t, redisconn.Options{URL: url, CAFile: pair.CA}).Ping(t.Context()).Err(); err == nil {
		t.Error("the server took us without a client certificate, so that the test proves nothing")
	}
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--appendonly", "yes")
	host, primary, _ := net.SplitHostPort(p.Addr)
	port, dir := freePort(t), t.TempDir()
	file := filepath.Join(dir, "sentinel.conf")
	conf := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor main %s %s 1\n", port, dir, host, primary)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", file, "--sentinel")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	rdb := client(t, redisconn.Options{URL: address("redis+sentinel://127.0.0.1:" + port + "/main/2")})
	redistest.Eventually(t, 15*time.Second, "the sentinel names the primary", func() bool { return rdb.Ping(t.Context()).Err() == nil })
	roundTrip(t, rdb)
	if left := inspect(t, rdb).Problems(); len(left) != 0 {
		t.Errorf("problems:\n%s", splitCommand(left))
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	var hosts []string
	var nodes []redis.UniversalClient
	for range 3 {
		p := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-port", freePort(t), "--appendonly", "yes")
		hosts = append(hosts, p.Addr)
		nodes = append(nodes, client(t, redisconn.Options{URL: address("redis://" + p.Addr)}))
	}
	ctx := t.Context()
	for i, from := range []int{0, 5461, 10923} {
		if err := nodes[i].Do(ctx, "CLUSTER", "ADDSLOTSRANGE", from, []int{5460, 10922, 16383}[i]).Err(); err != nil {
			t.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(hosts[i])
		bus, err := nodes[i].ConfigGet(ctx, "cluster-port").Result()
		if err != nil {
			t.Fatal(err)
		}
		if err := nodes[0].Do(ctx, "CLUSTER", "MEET", host, port, bus["cluster-port"]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Eventually(t, 30*time.Second, "the nodes form a cluster", func() bool {
		for _, n := range nodes {
			if info, err := n.ClusterInfo(ctx).Result(); err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	rdb := client(t, redisconn.Options{URL: address("redis+cluster://" + strings.Join(hosts[:2], ","))})
	roundTrip(t, rdb)
	if left := inspect(t, rdb).Problems(); len(left) != 0 {
		t.Errorf("problems:\n%s", splitCommand(left))
	}
	if err := nodes[2].ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if err := nodes[1].ConfigSet(ctx, "appendonly", "no").Err(); err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, rdb).Problems(); len(got) != 2 {
		t.Errorf("one node evicts, another forgets; problems:\n%s", splitCommand(got))
	}
}

func TestFailingLoopsArePaced(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t, "--maxmemory", "1")
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr)})
	began := time.Now()
	for range 5 {
		if err := rdb.Set(context.Background(), "k", "v", 0).Err(); !redis.IsOOMError(err) {
			t.Fatalf("SET on a full server: %v", err)
		}
	}
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("five failures took %v: the loop would spin", took)
	}
}

func TestPoolMetrics(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	rdb := client(t, redisconn.Options{URL: address("redis://" + p.Addr)})
	roundTrip(t, rdb)
	c := redisconn.NewPoolCollector(rdb)
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	got, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range got {
		for _, m := range family.GetMetric() {
			values[family.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if values["lamplighter_redis_pool_connections"] != 1 || values["lamplighter_redis_pool_requests_total"] < 40 || len(values) != 7 {
		t.Errorf("metrics = %v", values)
	}
}
