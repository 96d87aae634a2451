package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// staticMode is the argument that makes this program the static handler.
const staticMode = "static-handler"

// asker asks about one tenant and waits for the answer.
type asker interface {
	ask(tenant int) error
}

// pace is what a closed loop reached: answers by second, and how long one took, in ms.
type pace struct{ rate, p50, p99 float64 }

// closedLoop has n askers ask about random tenants, each waiting for one answer before it asks
// again, for a while that counts after one that does not.
func closedLoop(n, tenants int, warm, counted time.Duration, newAsker func() (asker, error)) (pace, error) {
	askers := make([]asker, n)
	for i := range askers {
		var err error
		if askers[i], err = newAsker(); err != nil {
			return pace{}, err
		}
		if c, ok := askers[i].(io.Closer); ok {
			defer func() { _ = c.Close() }() // when all have stopped
		}
	}
	took := make([][]float64, n)
	errs := make([]error, n)
	from := time.Now().Add(warm)
	until := from.Add(counted)
	var work sync.WaitGroup
	for i, a := range askers {
		work.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1)) //nolint:gosec // which tenant to ask about
			for start := time.Now(); start.Before(until); {
				if errs[i] = a.ask(random.IntN(tenants)); errs[i] != nil {
					return
				}
				end := time.Now()
				if start.After(from) && end.Before(until) {
					took[i] = append(took[i], float64(end.Sub(start))/1e6)
				}
				start = end
			}
		})
	}
	work.Wait()
	if err := errors.Join(errs...); err != nil {
		return pace{}, err
	}
	var all []float64
	for _, t := range took {
		all = append(all, t...)
	}
	return pace{rate: float64(len(all)) / counted.Seconds(), p50: percentile(all, 0.5), p99: percentile(all, 0.99)}, nil
}

// askFunc is an asker without state.
type askFunc func(tenant int) error

func (f askFunc) ask(tenant int) error { return f(tenant) }

// remembered is how many answers a puller that asks on condition knows: few enough that it has
// learnt them before its load counts.
const remembered = 20

// puller asks over one connection of its own, with no more work than HTTP/1.1 takes, so that what
// is measured is the server.
type puller struct {
	conn  net.Conn
	lines *bufio.Reader
	host  string
	// tags are the ETags by which it asks again; nil: it asks without condition.
	tags map[int]string
	// known are the tenants in tags.
	known []int
}

func dialPuller(ctx context.Context, addr string, conditional bool) (*puller, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	p := &puller{conn: conn, lines: bufio.NewReader(conn), host: addr}
	if conditional {
		p.tags = map[int]string{}
	}
	return p, conn.SetDeadline(time.Now().Add(patience))
}

// Close ends the connection.
func (p *puller) Close() error { return p.conn.Close() }

// ask asks about a tenant. On condition, it asks about the first tenants again and again, and one
// answer to each question may be new, as when ValidUntil has passed.
func (p *puller) ask(tenant int) error {
	if p.tags == nil {
		_, _, err := p.get(tenant, "")
		return err
	}
	if len(p.known) < remembered {
		p.known = append(p.known, tenant)
	} else {
		tenant = p.known[tenant%remembered]
	}
	tag, _, err := p.get(tenant, p.tags[tenant])
	p.tags[tenant] = tag
	return err
}

// get makes a request and returns the answer's ETag and status.
func (p *puller) get(tenant int, tag string) (string, int, error) {
	request := "GET /api/state/" + tenantName(tenant) + " HTTP/1.1\r\nHost: " + p.host + "\r\n"
	if tag != "" {
		request += "If-None-Match: " + tag + "\r\n"
	}
	if _, err := io.WriteString(p.conn, request+"\r\n"); err != nil {
		return "", 0, err
	}
	resp, err := http.ReadResponse(p.lines, nil)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return "", 0, err
	}
	switch {
	case resp.StatusCode == http.StatusOK && n > 0:
	case resp.StatusCode == http.StatusNotModified && tag != "":
	default:
		return "", 0, fmt.Errorf("status %d with %d bytes", resp.StatusCode, n)
	}
	return resp.Header.Get("ETag"), resp.StatusCode, nil
}

// staticHandler answers every request with the same text, and 304 to who has it.
func staticHandler(answer []byte) http.Handler {
	const tag = `"0123456789abcdef01234567"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Request-Id", "0123456789abcdef01234567")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", typeJSON)
		_, _ = w.Write(answer)
	})
}

// runStatic serves what it reads until ctx ends, and says where.
func runStatic(ctx context.Context, in io.Reader, out io.Writer) error {
	answer, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serve the answer: %w", err)
	}
	server := &http.Server{Handler: staticHandler(answer), ReadHeaderTimeout: patience}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	fmt.Fprintln(out, l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the answer: %w", err)
	}
	return nil
}

// startStatic runs the static handler in a process of its own, as the service is.
func (b *bench) startStatic(ctx context.Context, answer []byte) (addr string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("start the static handler: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, staticMode) //nolint:gosec // this program itself
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(answer)), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, fmt.Errorf("start the static handler: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("start the static handler: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("start the static handler: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}
