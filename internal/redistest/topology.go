package redistest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Client connects to the server itself, whatever it is part of; the connection ends with the test.
func (p *Process) Client(t testing.TB) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1, DialTimeout: time.Second})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Freeze stops the server's process without ending it (SIGSTOP), as a machine does that hangs.
func (p *Process) Freeze() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (p *Process) Thaw() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// addr is where other servers find it.
func (p *Process) addr() string { return cmp.Or(p.TLSAddr, p.Addr) }

// StartReplica launches a replica of a server and waits until it has its data.
func StartReplica(t testing.TB, primary *Process, args ...string) *Process {
	t.Helper()
	host, port, _ := net.SplitHostPort(primary.addr())
	r := Start(t, append([]string{"--replicaof", host + " " + port}, args...)...)
	rdb := r.Client(t)
	Eventually(t, 30*time.Second, "the replica has its primary's data", func() bool { return Synced(t.Context(), rdb) })
	return r
}

// Writing is how much a server has written.
type Writing struct {
	// Offset is that of the replication stream, Changes how many writes changed something.
	Offset, Changes int64
}

// Beyond reports that something was written since, besides what servers send each other unasked.
func (w Writing) Beyond(o Writing) bool { return w.Offset > o.Offset && w.Changes > o.Changes }

// Written asks a server, which MUST take no snapshots, since those restart the count of changes.
func Written(t testing.TB, rdb *redis.Client) (w Writing) {
	t.Helper()
	for name, into := range map[string]*int64{"master_repl_offset": &w.Offset, "rdb_changes_since_last_save": &w.Changes} {
		text, err := rdb.Info(t.Context(), "replication", "persistence").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(text, name+":")
		number, _, _ := strings.Cut(rest, "\r\n")
		if *into, err = strconv.ParseInt(number, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// Synced reports whether a server is a replica whose link to its primary is up.
func Synced(ctx context.Context, rdb *redis.Client) bool {
	info, err := rdb.Info(ctx, "replication").Result()
	return err == nil && strings.Contains(info, "master_link_status:up")
}

// SentinelMaster is the name by which the sentinels of StartSentinels know the primary.
const SentinelMaster = "main"

// Sentinels are processes that watch a primary and replace it by a replica.
type Sentinels struct {
	// Addrs are without TLS, where the test finds them.
	Addrs []string
	tls   []string
}

// URL is how the service is told of them.
func (s *Sentinels) URL() string {
	if len(s.tls) > 0 {
		return "rediss+sentinel://" + strings.Join(s.tls, ",") + "/" + SentinelMaster + "/0"
	}
	return "redis+sentinel://" + strings.Join(s.Addrs, ",") + "/" + SentinelMaster + "/0"
}

// Primary asks the sentinels which server is the primary now.
func (s *Sentinels) Primary(ctx context.Context) (string, error) {
	var last error
	for _, addr := range s.Addrs {
		rdb := redis.NewSentinelClient(&redis.Options{Addr: addr, MaxRetries: -1, DialTimeout: time.Second})
		got, err := rdb.GetMasterAddrByName(ctx, SentinelMaster).Result()
		_ = rdb.Close()
		if err == nil && len(got) == 2 {
			return net.JoinHostPort(got[0], got[1]), nil
		}
		last = err
	}
	return "", fmt.Errorf("ask the sentinels: %w", last)
}

// StartSentinels launches n sentinels that replace the primary when most of them have not heard
// of it for two seconds. With an authority they speak TLS, as the primary must then. They end with the test.
func StartSentinels(t testing.TB, primary *Process, n int, authority ...Authority) *Sentinels {
	t.Helper()
	host, port, _ := net.SplitHostPort(primary.addr())
	s := &Sentinels{}
	for range n {
		own, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "sentinel.conf")
		conf := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nlogfile %s\nsentinel monitor %s %s %s %d\nsentinel down-after-milliseconds %s 2000\n"+
			"sentinel failover-timeout %s 5000\n", own, dir, filepath.Join(dir, "log"), SentinelMaster, host, port, n/2+1, SentinelMaster, SentinelMaster)
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{file, "--sentinel"}
		for _, a := range authority {
			more := a.Args(t)
			args = append(args, more...)
			s.tls = append(s.tls, net.JoinHostPort("127.0.0.1", more[1]))
		}
		cmd := exec.Command("redis-server", args...) //nolint:noctx,gosec // ended by the test, whose own file it is
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatalf("start a sentinel (make deps installs redis): %v", err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if t.Failed() {
				logDecisions(t, filepath.Join(dir, "log"))
			}
		})
		s.Addrs = append(s.Addrs, net.JoinHostPort("127.0.0.1", strconv.Itoa(own)))
	}
	Eventually(t, 30*time.Second, "the sentinels know each other and the replicas", func() bool {
		for _, addr := range s.Addrs {
			rdb := redis.NewSentinelClient(&redis.Options{Addr: addr, MaxRetries: -1})
			m, err := rdb.Master(t.Context(), SentinelMaster).Result()
			_ = rdb.Close()
			if err != nil || m["num-other-sentinels"] != strconv.Itoa(n-1) || m["flags"] != "master" {
				return false
			}
		}
		return true
	})
	return s
}

// logDecisions logs what a sentinel thought of the servers, and when it replaced the primary.
func logDecisions(t testing.TB, file string) {
	t.Helper()
	text, err := os.ReadFile(file) //nolint:gosec // the test's own file
	if err != nil {
		t.Logf("a sentinel's log: %v", err)
		return
	}
	for line := range strings.Lines(string(text)) {
		if _, event, ok := strings.Cut(line, " # +"); ok {
			t.Logf("sentinel: %s +%s", line[:min(len(line), 40)], strings.TrimSpace(event))
		}
	}
}

// Cluster is a Redis Cluster on loopback.
type Cluster struct {
	// Primaries hold a third of the slots each, if there are three. Replicas, if any, stand at
	// their primary's index.
	Primaries, Replicas []*Process
	nodes               map[*Process]*redis.Client
}

// slots is how many hash slots a Cluster has.
const slots = 16384

// URL is how the service is told of it.
func (c *Cluster) URL() string {
	var addrs []string
	scheme := "redis"
	for _, p := range c.Primaries {
		addrs = append(addrs, p.addr())
		if p.TLSAddr != "" {
			scheme = "rediss"
		}
	}
	return scheme + "+cluster://" + strings.Join(addrs, ",")
}

// StartCluster launches a Cluster of n primaries with a replica each, if asked for, and waits until
// it serves. It ends with the test.
func StartCluster(t testing.TB, n int, replicas bool, args ...string) *Cluster {
	t.Helper()
	return form(t, n, replicas, args, func(args ...string) *Process { return Start(t, args...) })
}

// StartTLSCluster is StartCluster whose nodes speak TLS among each other and to clients.
func StartTLSCluster(t testing.TB, n int, replicas bool, a Authority, args ...string) *Cluster {
	t.Helper()
	return form(t, n, replicas, args, func(args ...string) *Process { return Start(t, append(args, a.Args(t)...)...) })
}

// form makes a Cluster of the servers that start launches.
func form(t testing.TB, n int, replicas bool, args []string, start func(args ...string) *Process) *Cluster {
	t.Helper()
	c := &Cluster{nodes: map[*Process]*redis.Client{}}
	node := func() *Process {
		bus, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		p := start(append([]string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000",
		}, args...)...)
		c.nodes[p] = p.Client(t)
		return p
	}
	for range n {
		c.Primaries = append(c.Primaries, node())
		if replicas {
			c.Replicas = append(c.Replicas, node())
		}
	}
	ctx := t.Context()
	for i, p := range c.Primaries {
		if err := c.nodes[p].ClusterAddSlotsRange(ctx, i*slots/n, (i+1)*slots/n-1).Err(); err != nil {
			t.Fatalf("give slots to a node: %v", err)
		}
	}
	c.meet(t)
	for i, r := range c.Replicas {
		if err := c.nodes[r].ClusterReplicate(ctx, c.id(t, c.Primaries[i])).Err(); err != nil {
			t.Fatalf("make a replica: %v", err)
		}
		Eventually(t, 30*time.Second, "a replica has its primary's data", func() bool { return Synced(ctx, c.nodes[r]) })
	}
	return c
}

func (c *Cluster) meet(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	first := c.nodes[c.Primaries[0]]
	for _, rdb := range c.nodes {
		host, port, _ := net.SplitHostPort(rdb.Options().Addr)
		bus, err := rdb.ConfigGet(ctx, "cluster-port").Result()
		if err != nil {
			t.Fatalf("ask for a cluster port: %v", err)
		}
		if err := first.Do(ctx, "CLUSTER", "MEET", host, port, bus["cluster-port"]).Err(); err != nil {
			t.Fatalf("introduce a node: %v", err)
		}
	}
	want := fmt.Sprintf("cluster_known_nodes:%d", len(c.nodes))
	Eventually(t, 60*time.Second, "the nodes form a cluster", func() bool {
		for _, rdb := range c.nodes {
			info, err := rdb.ClusterInfo(ctx).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, want+"\r\n") {
				return false
			}
		}
		return true
	})
}

func (c *Cluster) id(t testing.TB, p *Process) string {
	t.Helper()
	id, err := c.nodes[p].ClusterMyID(t.Context()).Result()
	if err != nil {
		t.Fatalf("ask for a node's id: %v", err)
	}
	return id
}

// Slot is the hash slot of a key.
func (c *Cluster) Slot(ctx context.Context, key string) (int, error) {
	slot, err := c.nodes[c.Primaries[0]].ClusterKeySlot(ctx, key).Result()
	return int(slot), err
}

// Holder is the primary that serves a slot, nil when none of Primaries says it does.
func (c *Cluster) Holder(ctx context.Context, slot int) *Process {
	for _, p := range c.Primaries {
		ranges, err := c.nodes[p].ClusterSlots(ctx).Result() //nolint:staticcheck // Redis 6.2 knows no CLUSTER SHARDS
		if err != nil {
			continue
		}
		for _, r := range ranges {
			if r.Start <= slot && slot <= r.End && len(r.Nodes) > 0 {
				at := slices.IndexFunc(c.Primaries, func(p *Process) bool { return p.Addr == r.Nodes[0].Addr })
				if at >= 0 {
					return c.Primaries[at]
				}
			}
		}
	}
	return nil
}

// MoveSlot moves a slot from one primary to another the way `redis-cli --cluster reshard` does, key
// by key, while both serve.
func (c *Cluster) MoveSlot(ctx context.Context, slot int, from, to *Process) error {
	source, target := c.nodes[from], c.nodes[to]
	fromID, err := source.ClusterMyID(ctx).Result()
	if err != nil {
		return fmt.Errorf("move slot %d: %w", slot, err)
	}
	toID, err := target.ClusterMyID(ctx).Result()
	if err != nil {
		return fmt.Errorf("move slot %d: %w", slot, err)
	}
	if err := target.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID).Err(); err != nil {
		return fmt.Errorf("import slot %d: %w", slot, err)
	}
	if err := source.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID).Err(); err != nil {
		return fmt.Errorf("migrate slot %d: %w", slot, err)
	}
	host, port, _ := net.SplitHostPort(to.addr())
	for {
		keys, err := source.ClusterGetKeysInSlot(ctx, slot, 10).Result()
		if err != nil {
			return fmt.Errorf("list the keys of slot %d: %w", slot, err)
		}
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}
		for _, k := range keys {
			args = append(args, k)
		}
		if err := source.Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("migrate keys of slot %d: %w", slot, err)
		}
	}
	for _, rdb := range []*redis.Client{target, source} {
		if err := rdb.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID).Err(); err != nil {
			return fmt.Errorf("hand over slot %d: %w", slot, err)
		}
	}
	return nil
}

// FailOver kills a primary, waits until its replica serves its slots, and starts it again as the
// replica's replica. The two change places in Primaries and Replicas.
func (c *Cluster) FailOver(t testing.TB, i int) error {
	ctx := t.Context()
	p, r := c.Primaries[i], c.Replicas[i]
	p.Kill()
	within, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for role := ""; role != "master"; role = roleOf(within, c.nodes[r]) {
		if err := breathe(within); err != nil {
			return fmt.Errorf("wait until a replica took over: %w", err)
		}
	}
	if err := p.Restart(); err != nil {
		return err
	}
	c.Primaries[i], c.Replicas[i] = r, p
	for !Synced(within, c.nodes[p]) {
		if err := breathe(within); err != nil {
			return fmt.Errorf("wait until a killed primary is a replica: %w", err)
		}
	}
	return nil
}

func roleOf(ctx context.Context, rdb *redis.Client) string {
	info, err := rdb.Info(ctx, "replication").Result()
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(info, "role:")
	role, _, _ := strings.Cut(rest, "\r\n")
	return role
}

func breathe(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}
