package redisconn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// abort is not a command: it makes Redis discard a transaction.
const abort = "lamplighter-gives-up"

// listNeededCommands lists the commands that the service uses, each with arguments that Redis accepts as well-formed. % stands
// for a key of the service, # for a key of the queues. docs/security.md has the same list as one ACL command.
func listNeededCommands() []string {
	return []string{
		"select 0", "client setname lamplighter", "client id", "info server", "time", "config get save", "memory usage %", "wait 0 1",
		"eval return(1) 1 %", "evalsha 0 1 #", "script load return(1)", "publish asynq:cancel -",
		"del %", "exists #", "expire % 1", "expireat % 1", "pexpire % 1", "persist %", "ttl %", "pttl %", "type %", "scan 0", "rename % %", "unlink %",
		"get %", "set % 1", "setex # 1 1", "psetex # 1 1", "setnx # 1", "incr %", "append % 1",
		"hdel % f", "hexists % f", "hget % f", "hgetall %", "hincrby % f 1", "hkeys #", "hlen %", "hmget % f", "hrandfield %", "hscan % 0", "hset % f 1",
		"hsetnx % f 1", "hvals %",
		"llen %", "lmove # # left right", "lpop %", "lpush # 1", "lrange # 0 1", "lrem # 1 1", "ltrim # 0 1", "rpoplpush # #", "rpush % 1",
		"sadd # 1", "scard #", "sismember # 1", "smembers #", "smismember # 1", "srem # 1", "sscan % 0",
		"zadd % 1 m", "zcard %", "zcount % 0 1", "zmscore % m", "zrange % 0 1", "zrangebylex % - +", "zrangebyscore % 0 1", "zrem % m",
		"zremrangebyrank % 0 1", "zremrangebyscore % 0 1", "zrevrange % 0 1", "zrevrangebyscore % 1 0", "zscore % m",
		"xadd % * f 1", "xdel % 0-1", "xlen %", "xrange % - +", "xrevrange % + -", "xtrim % maxlen 1",
	}
}

// optional may be missing: INFO alone is then enough for the checks.
const optional = "config get"

// listClusterCommands lists the further commands at each node of a Cluster.
func listClusterCommands() []string {
	return []string{
		"cluster slots", "cluster shards", "cluster nodes", "cluster info", "cluster keyslot k", "cluster myid", "command", "asking", "readonly",
	}
}

// MissingRights lists the rights that the service needs and its user lacks at any primary, as ACL rules, sorted. No command is
// executed: Redis checks the rights of a command when it is queued in a transaction, and this transaction is discarded.
// Connecting requires +hello, +auth and +ping, and so proves them.
func MissingRights(ctx context.Context, rdb redis.UniversalClient, prefix string) ([]string, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		missing, err := missingRightsAt(ctx, rdb, prefix, listNeededCommands())
		return missing, explainError(err)
	}
	var mu sync.Mutex
	var all []string
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		missing, err := missingRightsAt(ctx, node, prefix, append(listNeededCommands(), listClusterCommands()...))
		mu.Lock()
		defer mu.Unlock()
		all = append(all, missing...)
		return err
	})
	slices.Sort(all)
	return slices.Compact(all), explainError(err)
}

func missingRightsAt(ctx context.Context, rdb redis.Cmdable, prefix string, commands []string) ([]string, error) {
	keys := strings.NewReplacer("%", prefix+":{doctor}:rights", "#", "asynq:{doctor}:rights")
	start, _, _ := tryInTransaction(ctx, rdb, nil)
	if redis.IsPermissionError(start.Err()) {
		return []string{"+multi"}, nil // without a transaction the other commands would be executed
	}
	for i, c := range commands {
		commands[i] = keys.Replace(c)
	}
	_, asked, end := tryInTransaction(ctx, rdb, commands)
	err := end.Err()
	if !redis.HasErrorPrefix(err, "EXECABORT") {
		return nil, fmt.Errorf("check the rights of the user: %w", err)
	}
	var missing []string
	if strings.Contains(err.Error(), "NOPERM") {
		missing = append(missing, "+exec")
	}
	for i, c := range commands {
		if err := asked[i].Err(); redis.IsPermissionError(err) && c != optional+" save" {
			missing = append(missing, ruleForRefusal(c, prefix, err))
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing), nil
}

// tryInTransaction queues commands in a transaction and discards it. Its answers hold their errors.
func tryInTransaction(ctx context.Context, rdb redis.Cmdable, commands []string) (start *redis.Cmd, asked []*redis.Cmd, end *redis.Cmd) {
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		start = p.Do(ctx, "multi")
		for _, c := range commands {
			asked = append(asked, p.Do(ctx, splitCommand(c)...))
		}
		p.Do(ctx, abort)
		end = p.Do(ctx, "exec")
		return nil
	})
	return start, asked, end
}

// ruleForRefusal returns the ACL rule that would allow a refused command: for keys, a channel, or the command.
func ruleForRefusal(command, prefix string, err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "channel"):
		return "&asynq:*"
	case strings.Contains(text, " key") && strings.Contains(command, "asynq:"):
		return "~asynq:*"
	case strings.Contains(text, " key"):
		return "~" + prefix + ":*"
	default:
		return "+" + commandRule(command)
	}
}

func splitCommand(command string) []any {
	fields := strings.Fields(command)
	out := make([]any, len(fields))
	for i, f := range fields {
		out[i] = f
	}
	return out
}

// commandRule returns a command's name in ACL rules, with its subcommand if the rules distinguish these.
func commandRule(command string) string {
	fields := strings.Fields(command)
	switch fields[0] {
	case "client", "config", "memory", "script", "cluster":
		return fields[0] + "|" + fields[1]
	default:
		return fields[0]
	}
}

// CountServedSlots returns how many hash slots of a Cluster are served, as seen by the primary that knows of the fewest, and how
// many there are; 0 and 0 without a Cluster.
func CountServedSlots(ctx context.Context, rdb redis.UniversalClient) (served, all int, err error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return 0, 0, nil
	}
	var mu sync.Mutex
	served = slotCount
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		text, err := node.ClusterInfo(ctx).Result()
		if err != nil {
			return fmt.Errorf("read the slots of the Cluster: %w", err)
		}
		info := map[string]string{}
		readInfo(info, text)
		mu.Lock()
		defer mu.Unlock()
		served = min(served, int(parseNumber(info["cluster_slots_ok"])))
		return nil
	})
	return served, slotCount, explainError(err)
}

// slotCount is how many hash slots every Cluster has.
const slotCount = 16384
