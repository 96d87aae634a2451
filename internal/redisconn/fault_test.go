package redisconn_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// said is an error that Redis answered.
type said string

func (a said) Error() string { return string(a) }

// RedisError marks it as the library does.
func (said) RedisError() {}

func TestFaultOfEachAnswer(t *testing.T) {
	t.Parallel()
	seen := map[redisconn.Fault]bool{}
	for _, c := range []struct {
		err  error
		want redisconn.Fault
	}{
		{nil, redisconn.NoFault},
		{redis.Nil, redisconn.NoFault},
		{said("WRONGTYPE Operation against a key holding the wrong kind of value"), redisconn.NoFault},
		{said("FORMAT the mailbox is of another version"), redisconn.NoFault},
		{said("ERR unknown command 'askme'"), redisconn.NoFault},
		{errors.New("a fault of ours"), redisconn.NoFault},
		{said("NOAUTH Authentication required."), redisconn.FaultLogin},
		{said("WRONGPASS invalid username-password pair or user is disabled."), redisconn.FaultLogin},
		{said("ERR invalid password"), redisconn.FaultLogin},
		{said("ERR AUTH <password> called without any password configured"), redisconn.FaultLogin},
		{said("DENIED Redis is running in protected mode"), redisconn.FaultLogin},
		{said("NOPERM this user has no permissions to run the 'get' command"), redisconn.FaultRights},
		{said("LOADING Redis is loading the dataset in memory"), redisconn.FaultLoading},
		{said("BUSY Redis is busy running a script."), redisconn.FaultBusy},
		{said("READONLY You can't write against a read only replica."), redisconn.FaultReadOnly},
		{said("MASTERDOWN Link with MASTER is down"), redisconn.FaultPrimary},
		{said("NOMASTERLINK Can't SYNC while not connected with my master"), redisconn.FaultPrimary},
		{said("UNBLOCKED force unblock from blocking operation, instance state changed"), redisconn.FaultPrimary},
		{fmt.Errorf("redis: all sentinels specified in configuration are unreachable: %w", errors.Join(redis.Nil)), redisconn.FaultPrimary},
		{said("MOVED 3999 127.0.0.1:6381"), redisconn.FaultSlots},
		{said("ASK 3999 127.0.0.1:6381"), redisconn.FaultSlots},
		{said("CLUSTERDOWN Hash slot not served"), redisconn.FaultSlots},
		{said("TRYAGAIN Multiple keys request during rehashing of slot"), redisconn.FaultSlots},
		{errors.New("redis: cluster has no nodes"), redisconn.FaultSlots},
		{said("OOM command not allowed when used memory > 'maxmemory'."), redisconn.FaultMemory},
		{said("MISCONF Redis is configured to save RDB snapshots"), redisconn.FaultDisk},
		{said("NOREPLICAS Not enough good replicas to write."), redisconn.FaultReplicas},
		{&redisconn.ReplicasError{}, redisconn.FaultReplicas},
		{said("NOSCRIPT No matching script."), redisconn.FaultScripts},
		{said("ERR max number of clients reached"), redisconn.FaultPool},
		{redis.ErrPoolTimeout, redisconn.FaultPool},
		{redis.ErrPoolExhausted, redisconn.FaultPool},
		{context.DeadlineExceeded, redisconn.FaultTimeout},
		{os.ErrDeadlineExceeded, redisconn.FaultTimeout},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, redisconn.FaultUnreachable},
		{&net.DNSError{Err: "no such host"}, redisconn.FaultUnreachable},
		{io.EOF, redisconn.FaultUnreachable},
		{io.ErrUnexpectedEOF, redisconn.FaultUnreachable},
		{net.ErrClosed, redisconn.FaultUnreachable},
		{redis.ErrClosed, redisconn.FaultUnreachable},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, redisconn.FaultTLS},
		{tls.AlertError(42), redisconn.FaultTLS},
	} {
		seen[c.want] = true
		if got := redisconn.ClassifyFault(c.err); got != c.want {
			t.Errorf("%v is %q, want %q", c.err, got, c.want)
		}
		if c.err == nil {
			continue
		}
		if got := redisconn.ClassifyFault(fmt.Errorf("read: %w", c.err)); got != c.want {
			t.Errorf("%v within another is %q, want %q", c.err, got, c.want)
		}
	}
	for _, f := range redisconn.Faults() {
		if !seen[f] {
			t.Errorf("no row is a fault of %s", f)
		}
	}
}

// TestFaultsOfServers provokes what can be provoked, so that the table is what servers and the library say.
func TestFaultsOfServers(t *testing.T) {
	t.Parallel()
	p := redistest.Start(t)
	plain := p.Client(t)
	ctx := t.Context()
	for _, args := range [][]any{
		{"acl", "setuser", "few", "on", ">pw", "~*", "+ping", "+hello", "+client"},
		{"set", "k", "v"},
	} {
		if err := plain.Do(ctx, args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	locked := redistest.Start(t)
	if err := locked.Client(t).ConfigSet(ctx, "requirepass", "pw").Err(); err != nil {
		t.Fatal(err)
	}
	replica := redistest.StartReplica(t, p)
	few := redistest.Start(t, "--min-replicas-to-write", "1")
	full := redistest.Start(t, "--maxmemory", "1")
	node := redistest.Start(t, "--cluster-enabled", "yes")
	frozen := redistest.Start(t)
	sentinels := redistest.StartSentinels(t, p, 1)
	port, err := redistest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		url  string
		want redisconn.Fault
	}{
		"no password":      {"redis://" + locked.Addr, redisconn.FaultLogin},
		"wrong password":   {"redis://:no@" + locked.Addr, redisconn.FaultLogin},
		"no right":         {"redis://few:pw@" + p.Addr, redisconn.FaultRights},
		"replica":          {"redis://" + replica.Addr, redisconn.FaultReadOnly},
		"too few replicas": {"redis://" + few.Addr, redisconn.FaultReplicas},
		"full":             {"redis://" + full.Addr, redisconn.FaultMemory},
		"no slots":         {"redis://" + node.Addr, redisconn.FaultSlots},
		"gone":             {fmt.Sprintf("redis://127.0.0.1:%d", port), redisconn.FaultUnreachable},
		"frozen":           {"redis://" + frozen.Addr, redisconn.FaultTimeout},
		"unknown primary":  {strings.Replace(sentinels.URL(), "/"+redistest.SentinelMaster, "/another", 1), redisconn.FaultPrimary},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			rdb := client(t, redisconn.Options{URL: address(c.url), Faults: redisconn.NewFaultCounter(reg)})
			if name == "frozen" {
				frozen.Freeze()
				defer frozen.Thaw()
			}
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			err := rdb.Set(ctx, "k", "v", 0).Err()
			if got := redisconn.ClassifyFault(err); got != c.want {
				t.Errorf("%v is %q, want %q", err, got, c.want)
			}
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(redisconn.Faults(), func(f redisconn.Fault) bool { return f == c.want })
			if n := testutil.CollectAndCount(reg); n != len(redisconn.Faults()) || i < 0 {
				t.Errorf("%d series, want %d", n, len(redisconn.Faults()))
			}
			for _, m := range families[0].GetMetric() {
				if got := m.GetCounter().GetValue() > 0; got != (m.GetLabel()[0].GetValue() == string(c.want)) {
					t.Errorf("counted as %s: %v", m.GetLabel()[0].GetValue(), got)
				}
			}
		})
	}
}
