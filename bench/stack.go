package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/lamplighter/lamplighter/internal/signing"
)

const (
	adminToken  = "lmp_bench_bootstrap_token_0123456789" //nolint:gosec // of a deployment that lives for minutes
	fileVersion = "10.3.8.2024"
)

// appName and tenantName are identifiers of a usual length.
func appName(n int) string    { return fmt.Sprintf("%032x", 0xbe9c4<<40+n) }
func tenantName(n int) string { return "Cust" + strconv.Itoa(1_000_000+n) }

// stack is a deployment of its own: Redis, keys, settings and the processes started with them.
type stack struct {
	b         *bench
	receivers *receiver
	dir       string
	redis     *server
	env       []string
	api       string
	client    *http.Client
	processes []*process
	apps      int
	epoch     int
}

// newStack starts receivers and Redis, and writes keys and settings; everything else is default.
func (b *bench) newStack(ctx context.Context, settings ...string) (_ *stack, err error) {
	s := &stack{b: b, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.dir, err = os.MkdirTemp(b.dir, "stack"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	if s.receivers, err = startReceiver(ctx); err != nil {
		return nil, err
	}
	if s.redis, err = startRedis(ctx, s.dir); err != nil {
		return nil, err
	}
	if s.api, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	for _, alg := range []string{signing.RS256, signing.ES256} {
		if _, err := s.command(ctx, "keys", "generate", "--alg", alg, "--out", s.keyFile(alg)); err != nil {
			return nil, err
		}
	}
	encryption, err := s.command(ctx, "keys", "encryption")
	if err != nil {
		return nil, err
	}
	s.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir,
		"LAMPLIGHTER_REDIS_URL=redis://" + s.redis.addr + "/0",
		"LAMPLIGHTER_PUBLIC_URL=http://" + s.api, "LAMPLIGHTER_LISTEN=" + s.api,
		"LAMPLIGHTER_SIGNING_KEYS=" + s.keyFile(signing.RS256) + "," + s.keyFile(signing.ES256),
		"LAMPLIGHTER_ENCRYPTION_KEY=" + string(bytes.TrimSpace(encryption)),
		"LAMPLIGHTER_BOOTSTRAP_TOKEN=" + adminToken,
		"LAMPLIGHTER_SMTP_DISABLED=true", "LAMPLIGHTER_OPS_PPROF=true",
		"LAMPLIGHTER_GUARD_ALLOW_HTTP=true", "LAMPLIGHTER_GUARD_ALLOW_CIDRS=127.0.0.0/8",
		"LAMPLIGHTER_LOG_LEVEL=" + b.logLevel,
	}, settings...)
	return s, nil
}

func (s *stack) keyFile(alg string) string { return filepath.Join(s.dir, alg+".pem") }

// stop ends everything at once; what is in flight does not matter any more.
func (s *stack) stop() {
	for _, p := range s.processes {
		p.kill()
	}
	if s.redis != nil {
		s.redis.stop()
	}
	if s.receivers != nil {
		s.receivers.stop()
	}
	s.client.CloseIdleConnections()
	_ = os.RemoveAll(s.dir)
}

// command runs the binary to its end, against the stack's API if it needs one. Older versions read LAMPLIGHTER_URL.
func (s *stack) command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.b.binary, args...) //nolint:gosec // the program to measure
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir,
		"LAMPLIGHTER_SERVER=http://" + s.api, "LAMPLIGHTER_URL=http://" + s.api, "LAMPLIGHTER_TOKEN=" + adminToken,
	}
	out, err := cmd.Output()
	if err != nil {
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("lamplighter %v: %w: %s", args, err, failed.Stderr)
		}
		return nil, fmt.Errorf("lamplighter %v: %w", args, err)
	}
	return out, nil
}

// process is one running `lamplighter serve`.
type process struct {
	cmd  *exec.Cmd
	ops  string
	log  string
	once sync.Once
	err  error
}

// start starts a process with roles, without waiting for it.
func (s *stack) start(ctx context.Context, roles string) (*process, error) {
	ops, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	p := &process{ops: ops, log: filepath.Join(s.dir, "serve-"+strconv.Itoa(len(s.processes))+".log")}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("start lamplighter: %w", err)
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.CommandContext(ctx, s.b.binary, "serve", "--roles", roles) //nolint:gosec // the program to measure
	p.cmd.Env = append(append([]string{}, s.env...), "LAMPLIGHTER_OPS_LISTEN="+ops)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start lamplighter: %w", err)
	}
	s.processes = append(s.processes, p)
	return p, nil
}

// serve starts a process and waits until it is ready.
func (s *stack) serve(ctx context.Context, roles string) (*process, error) {
	p, err := s.start(ctx, roles)
	if err != nil {
		return nil, err
	}
	err = poll(ctx, 30*time.Second, 5*time.Millisecond, "lamplighter is ready", func() (bool, error) {
		status, _, err := s.do(ctx, http.MethodGet, "http://"+p.ops+"/readyz", "", nil)
		return status == http.StatusOK, err
	})
	if err != nil {
		text, _ := os.ReadFile(p.log)
		return nil, fmt.Errorf("%w; its log ends: %s", err, text[max(0, len(text)-600):])
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// wait returns how the process exited, to any number of callers.
func (p *process) wait() error {
	p.once.Do(func() { p.err = p.cmd.Wait() })
	return p.err
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.wait()
}

// terminate ends the process as an operator would.
func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop lamplighter: %w", err)
	}
	if err := p.wait(); err != nil {
		return fmt.Errorf("stop lamplighter: %w", err)
	}
	return nil
}

// do makes a request with the admin token.
func (s *stack) do(ctx context.Context, method, url, contentType string, body io.Reader) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// call makes an admin API call that must answer with the status.
func (s *stack) call(ctx context.Context, want int, method, path, contentType string, body []byte) ([]byte, error) {
	status, answer, err := s.do(ctx, method, "http://"+s.api+path, contentType, bytes.NewReader(body))
	if err == nil && status != want {
		err = fmt.Errorf("status %d, want %d: %s", status, want, answer[:min(300, len(answer))])
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return answer, nil
}

// each runs f for 0 to n-1, a few at once, and returns the first error.
func each(ctx context.Context, n int, f func(context.Context, int) error) error {
	const atOnce = 8
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, atOnce)
	var work sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			if err := f(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	work.Wait()
	return context.Cause(ctx)
}
