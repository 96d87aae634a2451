package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// server is a redis-server of a stack's own.
type server struct {
	addr string
	cmd  *exec.Cmd
	rdb  *redis.Client
}

// startRedis starts a redis-server with an append-only file. The file is never rewritten, since a
// rewrite in the middle of one measurement and not of another is noise.
func startRedis(ctx context.Context, dir string) (*server, error) {
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	s := &server{addr: addr}
	s.cmd = exec.CommandContext(ctx, "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", //nolint:gosec // own arguments
		"--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0",
		"--maxmemory-policy", "noeviction", "--logfile", filepath.Join(dir, "redis.log"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server (Debian: apt-get install redis-server): %w", err)
	}
	s.rdb = redis.NewClient(&redis.Options{Addr: addr})
	err = poll(ctx, 10*time.Second, 10*time.Millisecond, "redis-server answers", func() (bool, error) {
		err := s.rdb.Ping(ctx).Err()
		return err == nil, err
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *server) stop() {
	_ = s.rdb.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// fsync sets when the append-only file is flushed: always or everysec.
func (s *server) fsync(ctx context.Context, mode string) error {
	if err := s.rdb.ConfigSet(ctx, "appendfsync", mode).Err(); err != nil {
		return fmt.Errorf("set appendfsync %s: %w", mode, err)
	}
	return nil
}

// waiting counts the notifications that wait for the apps [0, apps).
func (s *server) waiting(ctx context.Context, apps int) (int, error) {
	space := keys.New(keys.DefaultPrefix)
	pipe := s.rdb.Pipeline()
	for app := range apps {
		pipe.HLen(ctx, space.App(partner.ClientID(appName(app)), keys.AppWaiting))
	}
	answers, err := pipe.Exec(ctx)
	if err != nil {
		return 0, fmt.Errorf("count what waits: %w", err)
	}
	sum := 0
	for _, a := range answers {
		if n, ok := a.(*redis.IntCmd); ok {
			sum += int(n.Val())
		}
	}
	return sum, nil
}

// mailboxBytes is the memory of an app's mailbox, approvals included.
func (s *server) mailboxBytes(ctx context.Context, app int) (int64, error) {
	space := keys.New(keys.DefaultPrefix)
	var sum int64
	for _, suffix := range []keys.AppKey{keys.AppTenants, keys.AppWaiting, keys.AppDue, keys.AppFlight, keys.AppMailbox} {
		n, err := s.rdb.MemoryUsage(ctx, space.App(partner.ClientID(appName(app)), suffix), 0).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return 0, fmt.Errorf("measure the mailbox: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// infoField reads one number of INFO.
func (s *server) infoField(ctx context.Context, section, field string) (int64, error) {
	text, err := s.rdb.Info(ctx, section).Result()
	if err != nil {
		return 0, fmt.Errorf("read INFO %s: %w", section, err)
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return strconv.ParseInt(v, 10, 64)
		}
	}
	return 0, fmt.Errorf("read INFO %s: no field %s", section, field)
}

// commands sums the calls of INFO commandstats; commands that scripts call count too.
func (s *server) commands(ctx context.Context) (int64, error) {
	text, err := s.rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		return 0, fmt.Errorf("read INFO commandstats: %w", err)
	}
	var sum int64
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(line, ":calls=")
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, ",")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read INFO commandstats: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// traffic is what a Redis was asked per second.
type traffic struct {
	// calls are those sent by clients that name the app; all are all commands, those that scripts
	// call included.
	calls, all float64
}

// watch observes Redis for a while. What MONITOR shows decides which calls concern the app, since
// the idle polling of queues is far more and varies by more.
func (s *server) watch(ctx context.Context, app int, d time.Duration) (traffic, error) {
	before, err := s.commands(ctx)
	if err != nil {
		return traffic{}, err
	}
	start := time.Now()
	calls, seen, err := s.monitor(ctx, appName(app), start.Add(d))
	if err != nil {
		return traffic{}, fmt.Errorf("watch Redis: %w", err)
	}
	elapsed := time.Since(start).Seconds()
	after, err := s.commands(ctx)
	if err != nil {
		return traffic{}, err
	}
	all := after - before
	if int64(seen) < all/2 { // else zero calls of the app would mean nothing
		return traffic{}, fmt.Errorf("watch Redis: MONITOR showed %d of %d commands", seen, all)
	}
	return traffic{calls: float64(calls) / elapsed, all: float64(all) / elapsed}, nil
}

// monitor counts, until a moment, the commands that clients sent and that name something, and all
// commands, those of scripts included.
func (s *server) monitor(ctx context.Context, name string, until time.Time) (named, seen int, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(until); err != nil {
		return 0, 0, err
	}
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		return 0, 0, err
	}
	lines := bufio.NewReaderSize(conn, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return named, seen, nil
		}
		if err != nil {
			return 0, 0, err
		}
		seen++
		if clientSent(line) && strings.Contains(line, name) {
			named++
		}
	}
}

// clientSent reports whether a line of MONITOR is a command that a client sent, not a script.
func clientSent(line string) bool {
	source, _, ok := strings.Cut(line, "] ")
	return ok && !strings.HasSuffix(source, " lua")
}

// freeAddress is a loopback address that was free a moment ago.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}
