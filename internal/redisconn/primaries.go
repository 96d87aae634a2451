package redisconn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// IdentifyPrimaries returns a name for the running primaries: a restart, a failover or another server changes it. It is empty if
// the access rules hide it. For a Cluster it consists of the names of all primaries.
func IdentifyPrimaries(ctx context.Context, rdb redis.UniversalClient) (string, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		name, err := runningServer(ctx, rdb)
		return name, explainError(err)
	}
	var mu sync.Mutex
	var names []string
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		name, err := runningServer(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		names = append(names, name)
		return err
	})
	if err != nil {
		return "", explainError(err)
	}
	slices.Sort(names)
	return strings.Trim(strings.Join(names, ","), ","), nil
}

// runningServer returns a server's run id and the id of its replication history.
func runningServer(ctx context.Context, rdb redis.Cmdable) (string, error) {
	info := map[string]string{}
	for _, section := range []string{"server", "replication"} {
		text, err := rdb.Info(ctx, section).Result()
		if isRefusal(err) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("INFO %s: %w", section, err)
		}
		readInfo(info, text)
	}
	return strings.Trim(info["run_id"]+"/"+info["master_replid"], "/"), nil
}
