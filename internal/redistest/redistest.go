// Package redistest gives tests a Redis: an in-process one, and a real redis-server that the
// tests start themselves. Without redis-server on the PATH the tests fail and say how to get
// it; they never skip.
package redistest

import (
	"bytes"
	"cmp"
	"context"
	_ "embed" // for clockSource
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

//go:embed testdata/clock.c
var clockSource []byte

// databases is how many isolated databases the shared server offers to parallel tests.
const databases = 512

// shared is the one real server of a test binary.
type shared struct {
	once   sync.Once
	server *Process
	err    error
	mu     sync.Mutex
	next   int
}

var real shared //nolint:gochecknoglobals // one server per test binary; Main ends it

// Main runs a package's tests and stops the shared server afterwards. Call it from TestMain.
func Main(m *testing.M) {
	ServeDelay()
	code := m.Run()
	if real.server != nil {
		real.server.stop()
	}
	for _, p := range whole.nodes {
		p.stop()
	}
	os.Exit(code)
}

// Each runs f against miniredis and against a real redis-server, each with an empty database.
func Each(t *testing.T, f func(t *testing.T, rdb redis.UniversalClient)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		f(t, Mini(t))
	})
	t.Run("redis-server", func(t *testing.T) {
		t.Parallel()
		f(t, Real(t))
	})
}

// patience is how long a client waits for an answer: longer than a busy machine keeps a server from its turn.
const patience = 30 * time.Second

// Mini returns a client of an in-process Redis of its own.
func Mini(t testing.TB) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ReadTimeout: patience, MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Real returns a client of an empty database on the test binary's redis-server.
func Real(t testing.TB) redis.UniversalClient {
	t.Helper()
	real.once.Do(func() { real.server, real.err = launch("", "--databases", strconv.Itoa(databases)) })
	if real.err != nil {
		t.Fatal(real.err)
	}
	real.mu.Lock()
	db := real.next % databases
	real.next++
	real.mu.Unlock()
	rdb := redis.NewClient(&redis.Options{Addr: real.server.Addr, DB: db, ReadTimeout: patience})
	t.Cleanup(func() { _ = rdb.Close() })
	if err := rdb.FlushDB(t.Context()).Err(); err != nil {
		t.Fatalf("empty database %d: %v", db, err)
	}
	return rdb
}

// Process is a redis-server that a test owns: it can be killed and started again on its port and
// its data.
type Process struct {
	Addr string
	// TLSAddr speaks TLS where the arguments ask for it, as those of Authority.Args do.
	TLSAddr string
	// env is added to the environment.
	env  []string
	dir  string
	args []string
	cmd  *exec.Cmd
	log  *bytes.Buffer
	// ownsDir says that stop removes dir.
	ownsDir bool
}

// Start launches a redis-server of the test's own with extra arguments, such as
// "--appendonly", "yes". It ends with the test.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	p, err := launch(t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

// StartAhead is Start with a server whose clock is ahead by so much, or behind where it is negative: its own
// time, its expiries and the time that scripts read. It takes a C compiler: see testdata/clock.c.
func StartAhead(t testing.TB, by time.Duration, args ...string) *Process {
	t.Helper()
	p, err := prepare(t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	library := filepath.Join(p.dir, "clock.so")
	source := filepath.Join(p.dir, "clock.c")
	if err := os.WriteFile(source, clockSource, 0o600); err != nil {
		t.Fatal(err)
	}
	compiler := cmp.Or(os.Getenv("CC"), "cc")
	if out, err := exec.Command(compiler, "-shared", "-fPIC", "-O2", "-o", library, source).CombinedOutput(); err != nil { //nolint:gosec,noctx // files of the test
		t.Fatalf("compile a clock for redis-server (make deps installs a C compiler): %v\n%s", err, out)
	}
	p.env = []string{"LD_PRELOAD=" + library, "CLOCK_SKEW_SECONDS=" + strconv.Itoa(int(by.Seconds()))}
	if err := p.run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

// StartOn is Start on a copy of an RDB file, with an append-only file from then on.
func StartOn(t testing.TB, rdbFile string, args ...string) *Process {
	t.Helper()
	b, err := os.ReadFile(rdbFile) //nolint:gosec // the test names the file
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dump.rdb"), b, 0o600); err != nil { //nolint:gosec // a directory of the test
		t.Fatal(err)
	}
	p, err := launch(dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	if err := p.Client(t).ConfigSet(t.Context(), "appendonly", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	return p
}

// Snapshot has the server write all it knows into an RDB file.
func (p *Process) Snapshot(ctx context.Context, rdbFile string) error {
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1})
	defer func() { _ = rdb.Close() }()
	if err := rdb.Save(ctx).Err(); err != nil {
		return fmt.Errorf("save a snapshot: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(p.dir, "dump.rdb"))
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	if err := os.WriteFile(rdbFile, b, 0o600); err != nil { //nolint:gosec // the test names the file
		return fmt.Errorf("write the snapshot: %w", err)
	}
	return nil
}

// Kill ends the server as a crash would (SIGKILL) and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// Restart starts a killed server again on the same port and data and waits until it answers.
func (p *Process) Restart() error { return p.run() }

// PID is the server's process id, for signals.
func (p *Process) PID() int { return p.cmd.Process.Pid }

func (p *Process) stop() {
	p.Kill()
	if p.ownsDir {
		_ = os.RemoveAll(p.dir)
	}
}

func launch(dir string, args ...string) (*Process, error) {
	p, err := prepare(dir, args...)
	if err != nil {
		return nil, err
	}
	return p, p.run()
}

// prepare chooses a port, and a directory unless it is given one.
func prepare(dir string, args ...string) (*Process, error) {
	own := dir == ""
	if own {
		d, err := os.MkdirTemp("", "redistest")
		if err != nil {
			return nil, fmt.Errorf("make directory for redis-server: %w", err)
		}
		dir = d
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	p := &Process{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), dir: dir, ownsDir: own}
	p.args = append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0",
		"--maxmemory-policy", "noeviction", "--logfile", filepath.Join(dir, "redis.log"),
	}, args...)
	if i := slices.Index(args, "--tls-port"); i >= 0 && i+1 < len(args) {
		p.TLSAddr = net.JoinHostPort("127.0.0.1", args[i+1])
	}
	return p, nil
}

// startWithin is how long a redis-server may take to answer: loading an append-only file counts.
const startWithin = 30 * time.Second

func (p *Process) run() error {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return errors.New("redis-server is not installed and these tests need a real one: run 'make deps' (Debian: apt-get install redis-server)")
	}
	p.log = &bytes.Buffer{}
	p.cmd = exec.Command(path, p.args...) //nolint:gosec,noctx // the test's own arguments; ended by stop
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stderr = p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: p.Addr, MaxRetries: -1, DialTimeout: time.Second})
	defer func() { _ = rdb.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := rdb.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.stop()
			return fmt.Errorf("redis-server on %s did not answer within %v: %w %s", p.Addr, startWithin, err, p.log)
		}
	}
}

// given are the ports that FreePort returned: until somebody listens there, the system would give one out again.
var given struct { //nolint:gochecknoglobals // as the ports are
	sync.Mutex

	ports map[int]bool
}

// mostGiven bounds that memory, far below the ports there are.
const mostGiven = 5000

// FreePort returns a TCP port on loopback that was free a moment ago, and that it returned to nobody else in this process. It
// is none that the system gives to outgoing connections, where that can be known: one of those would take it before
// somebody listens there, or while a server is away for a moment.
func FreePort() (int, error) {
	given.Lock()
	defer given.Unlock()
	if given.ports == nil || len(given.ports) >= mostGiven {
		given.ports = map[int]bool{}
	}
	beyond := firstOutgoing()
	for {
		port := 0
		if beyond > 2*lowestPort {
			port = lowestPort + rand.IntN(beyond-lowestPort) //nolint:gosec // nobody gains by guessing it
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // closed when the search ends, so that another port comes
		if port != 0 && errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }()
		if port = l.Addr().(*net.TCPAddr).Port; !given.ports[port] {
			given.ports[port] = true
			return port, nil
		}
	}
}

// lowestPort is above those that well-known servers have.
const lowestPort = 10_000

// firstOutgoing is the first port that outgoing connections get, 0 where that is not known.
func firstOutgoing() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\t")
	n, _ := strconv.Atoi(first)
	return n
}

// Eventually polls cond until it holds, and fails the test when it does not within the limit. It
// looks less often as time goes by: who looks all the time keeps others from what is waited for.
func Eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	pause := 2 * time.Millisecond
	for !cond() {
		select {
		case <-time.After(pause):
		case <-deadline.C:
			t.Fatalf("not within %v: %s", within, what)
		}
		pause = min(pause*5/4, 25*time.Millisecond)
	}
}
