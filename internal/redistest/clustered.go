package redistest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// sharedCluster is the Cluster of a test binary.
type sharedCluster struct {
	once    sync.Once
	cluster *Cluster
	nodes   []*Process
	next    atomic.Int64
}

var whole sharedCluster //nolint:gochecknoglobals // one Cluster per test binary; Main ends it

// Clustered returns a client of the test binary's Cluster of three primaries, and a prefix for keys
// that no other test has: a Cluster has one database. It needs Main.
func Clustered(t testing.TB) (rdb redis.UniversalClient, prefix string) {
	t.Helper()
	whole.once.Do(func() {
		whole.cluster = form(t, 3, false, nil, func(args ...string) *Process {
			p, err := launch("", args...)
			if err != nil {
				t.Fatal(err)
			}
			whole.nodes = append(whole.nodes, p)
			return p
		})
	})
	if whole.cluster == nil {
		t.Fatal("the cluster of these tests did not form")
	}
	var addrs []string
	for _, p := range whole.cluster.Primaries {
		addrs = append(addrs, p.Addr)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ReadTimeout: patience})
	t.Cleanup(func() { _ = client.Close() })
	return client, fmt.Sprintf("t%d", whole.next.Add(1))
}
