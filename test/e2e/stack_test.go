// Package e2e_test runs the real binary against a real redis-server, real receivers and a real
// SMTP server, and kills what can be killed.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

const adminToken = "lmp_e2e_bootstrap_token_0123456789"

// binary is built once for all tests.
var binary struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func TestMain(m *testing.M) {
	redistest.ServeDelay()
	code := judgeAnswers(m.Run())
	if binary.dir != "" {
		_ = os.RemoveAll(binary.dir)
	}
	os.Exit(code)
}

func build(t testing.TB) string {
	t.Helper()
	binary.once.Do(func() {
		if binary.dir, binary.err = os.MkdirTemp("", "lamplighter-e2e"); binary.err != nil {
			return
		}
		binary.path = filepath.Join(binary.dir, "lamplighter")
		// as `make build` does, so that what that compiled is not compiled again
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary.path, "../../cmd/lamplighter")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("build the binary: %w\n%s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

// stack is a deployment of its own: Redis, keys, settings and the processes started with them.
type stack struct {
	t     testing.TB
	bin   string
	dir   string
	redis *redistest.Process
	env   []string
	// api is the first API's address, apis those of all.
	api  string
	apis []string
	ops  string
}

// newStack starts a redis-server with an append-only file and writes keys and settings.
func newStack(t testing.TB, fsync string, settings ...string) *stack {
	t.Helper()
	p := redistest.Start(t, "--appendonly", "yes", "--appendfsync", fsync)
	s := newStackOn(t, "redis://"+p.Addr+"/0", settings...)
	s.redis = p
	return s
}

// newStackOn writes keys and settings for a Redis that runs already.
func newStackOn(t testing.TB, url string, settings ...string) *stack {
	t.Helper()
	s := &stack{t: t, bin: build(t), dir: t.TempDir()}
	for _, alg := range []string{"RS256", "ES256"} {
		s.run("keys", "generate", "--alg", alg, "--out", filepath.Join(s.dir, alg+".pem"))
	}
	s.api, s.ops = s.address(), s.address()
	s.apis = []string{s.api}
	s.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir,
		"LAMPLIGHTER_REDIS_URL=" + url,
		"LAMPLIGHTER_PUBLIC_URL=http://" + s.api,
		"LAMPLIGHTER_SIGNING_KEYS=" + filepath.Join(s.dir, "RS256.pem") + "," + filepath.Join(s.dir, "ES256.pem"),
		"LAMPLIGHTER_ENCRYPTION_KEY=" + string(bytes.TrimSpace(s.run("keys", "encryption"))),
		"LAMPLIGHTER_BOOTSTRAP_TOKEN=" + adminToken,
		"LAMPLIGHTER_SMTP_DISABLED=true",
		"LAMPLIGHTER_GUARD_ALLOW_HTTP=true", "LAMPLIGHTER_GUARD_ALLOW_CIDRS=127.0.0.0/8",
		"LAMPLIGHTER_LOG_LEVEL=warn",
		// short times, so that what a crash leaves behind is taken up within seconds
		"LAMPLIGHTER_DELIVERY_TIMEOUT=2s", "LAMPLIGHTER_DELIVERY_ENTRY_LEASE=8s", "LAMPLIGHTER_DELIVERY_OWNER_LEASE=3s",
		"LAMPLIGHTER_DELIVERY_GRACE=2s", "LAMPLIGHTER_DELIVERY_SWEEP=1s", "LAMPLIGHTER_DELIVERY_DRAIN_BUDGET=2s",
		"LAMPLIGHTER_DELIVERY_RETRY_SCHEDULE=1s,2s",
		"LAMPLIGHTER_BREAKER_OPEN_FOR=1s", "LAMPLIGHTER_BREAKER_OPEN_FOR_MAX=4s",
	}, settings...)
	return s
}

func (s *stack) address() string {
	s.t.Helper()
	port, err := redistest.FreePort()
	if err != nil {
		s.t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// run executes a command of the binary to its end.
func (s *stack) run(args ...string) []byte {
	s.t.Helper()
	cmd := exec.Command(s.bin, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("lamplighter %v: %v\n%s", args, err, stderr.Bytes())
	}
	return out
}

// process is one running `lamplighter serve`.
type process struct {
	stack  *stack
	bin    string // that of the stack unless it is another version
	roles  string
	listen string
	ops    string
	env    []string // besides that of the stack
	cmd    *exec.Cmd
	log    *os.File
	// ended is closed when the process is gone; exit is then how.
	ended chan struct{}
	exit  error
}

// serve starts a process with the given roles and waits until it is ready.
func (s *stack) serve(roles string) *process {
	s.t.Helper()
	return s.serveBy(s.bin, roles)
}

// serveBy is serve by another binary.
func (s *stack) serveBy(bin, roles string) *process {
	s.t.Helper()
	p := &process{stack: s, bin: bin, roles: roles, listen: s.api, ops: s.address()}
	if roles != "worker" {
		p.ops = s.ops
	}
	p.run()
	return p
}

// another starts one more API beside the first.
func (s *stack) another() *process {
	s.t.Helper()
	p := &process{stack: s, bin: s.bin, roles: "api", listen: s.address(), ops: s.address()}
	s.apis = append(s.apis, p.listen)
	p.run()
	return p
}

// run starts the process for as long as the test lasts.
func (p *process) run() {
	s := p.stack
	s.t.Helper()
	s.t.Cleanup(func() {
		p.kill()
		if s.t.Failed() {
			b, _ := os.ReadFile(p.log.Name())
			s.t.Logf("log of %s:\n%s", p.roles, tail(b, 1500))
		}
	})
	p.start()
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func (p *process) start() {
	s := p.stack
	s.t.Helper()
	if err := p.launch(); err != nil {
		s.t.Fatal(err)
	}
	redistest.Eventually(s.t, 30*time.Second, p.roles+" is ready", p.ready)
	if p.roles != "worker" && p.bin == s.bin {
		if err := readContract(s.t.Context(), p.listen); err != nil {
			s.t.Fatalf("the document of the API: %v", err)
		}
	}
}

// launch starts the process and waits for nothing.
func (p *process) launch() error {
	s := p.stack
	log, err := os.OpenFile(filepath.Join(s.dir, "serve-"+p.roles+"-"+p.ops+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p.log = log
	p.cmd = exec.Command(p.bin, "serve", "--roles", p.roles)
	p.cmd.Env = append(append(append([]string{}, s.env...), p.env...), "LAMPLIGHTER_LISTEN="+p.listen, "LAMPLIGHTER_OPS_LISTEN="+p.ops)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.ended = ended
	go func() {
		p.exit = p.cmd.Wait()
		_ = log.Close()
		close(ended)
	}()
	return nil
}

// gone reports whether the process has ended.
func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// probes bounds questions to the ops listener of a process that may be frozen.
var probes = &http.Client{Timeout: 2 * time.Second} //nolint:gochecknoglobals // never changed

// ready asks whether the process is ready.
func (p *process) ready() bool {
	resp, err := probes.Get("http://" + p.ops + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// kill ends the process as a crash would.
func (p *process) kill() {
	if p.ended == nil {
		return // it never started
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// terminate ends the process as an operator would and returns how it exited.
func (p *process) terminate() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.ended
	return p.exit
}

// call makes an admin API call and returns status and body; it fails the test when the service
// cannot be reached within the client's patience.
func (s *stack) call(method, path, contentType string, body []byte, header ...string) (int, []byte) {
	s.t.Helper()
	status, b, err := s.try(s.t.Context(), method, path, contentType, body, header...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return status, b
}

func (s *stack) try(ctx context.Context, method, path, contentType string, body []byte, header ...string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.apis[rand.IntN(len(s.apis))]+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := platform.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// want makes a call that must answer with a status, and decodes the answer into v.
func (s *stack) want(status int, v any, method, path, body string) {
	s.t.Helper()
	contentType := ""
	if body != "" {
		contentType = "application/json"
	}
	got, b := s.call(method, path, contentType, []byte(body))
	if got != status {
		s.t.Fatalf("%s %s: status %d, want %d: %s", method, path, got, status, b)
	}
	if v != nil {
		if err := json.Unmarshal(b, v); err != nil {
			s.t.Fatalf("%s %s: %v: %s", method, path, err, b)
		}
	}
}
