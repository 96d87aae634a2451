//go:build soak

package e2e_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dice is a seeded source of randomness that goroutines may share.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newDice(seed, lane uint64) *dice {
	return &dice{r: rand.New(rand.NewPCG(seed, lane))} //nolint:gosec // a test that can be repeated
}

func (d *dice) intN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

func (d *dice) perm(n int) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.Perm(n)
}

// oneIn is true once in n times.
func (d *dice) oneIn(n int) bool { return d.intN(n) == 0 }

func (d *dice) between(from, to time.Duration) time.Duration {
	return from + time.Duration(d.intN(int(to-from)))
}

// refusal is what a faultProxy does to commands while it lasts.
type refusal struct {
	// percent of the scripts are hit: of those that write a tenant's record, or of all.
	percent int
	all     bool
	// reply is the error that Redis answers in place of running the script. Without one the script runs,
	// and the connection is cut before its answer comes.
	reply string
}

// faultProxy stands before Redis and lets single commands of a pipeline fail, which no setting of
// Redis does: it is how a batch fails in part.
type faultProxy struct {
	addr, upstream string
	dice           *dice
	refusal        atomic.Pointer[refusal]
	refused, lost  atomic.Int64

	mu    sync.Mutex
	links map[*proxyLink]bool
}

func newFaultProxy(t *testing.T, upstream string, d *dice) *faultProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &faultProxy{addr: l.Addr().String(), upstream: upstream, dice: d, links: map[*proxyLink]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.carry(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
	})
	return p
}

// cut closes all connections; new ones are let through.
func (p *faultProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		k.close()
	}
}

// proxyLink is one client's connection and the one to Redis behind it.
type proxyLink struct {
	client, server net.Conn
	muted          atomic.Bool
}

func (k *proxyLink) close() {
	_ = k.client.Close()
	_ = k.server.Close()
}

func (p *faultProxy) carry(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.upstream, time.Second)
	if err != nil {
		_ = client.Close()
		return
	}
	k := &proxyLink{client: client, server: server}
	p.mu.Lock()
	p.links[k] = true
	p.mu.Unlock()
	defer func() {
		k.close()
		p.mu.Lock()
		delete(p.links, k)
		p.mu.Unlock()
	}()
	go func() {
		defer k.close()
		b := make([]byte, 32<<10)
		for {
			n, err := server.Read(b)
			if err != nil || k.muted.Load() {
				return
			}
			if _, err := client.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	in := bufio.NewReaderSize(client, 64<<10)
	var out, command []byte
	for {
		if command, err = readCommand(in, command[:0]); err != nil {
			return
		}
		out = append(out, p.judge(k, command)...)
		if in.Buffered() > 0 && len(out) < 1<<20 {
			continue
		}
		if _, err := server.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}

// judge returns what is sent in a command's place.
func (p *faultProxy) judge(k *proxyLink, command []byte) []byte {
	r := p.refusal.Load()
	if r == nil || !bytes.Contains(command[:min(len(command), 24)], []byte("evalsha")) {
		return command
	}
	if !r.all && !bytes.Contains(command, []byte("}:record\r\n")) || p.dice.intN(100) >= r.percent {
		return command
	}
	if r.reply == "" {
		if !k.muted.Swap(true) {
			p.lost.Add(1)
			time.AfterFunc(50*time.Millisecond, k.close) // when Redis has read what is sent now
		}
		return command
	}
	p.refused.Add(1)
	return fmt.Appendf(nil, "*4\r\n$4\r\nEVAL\r\n$33\r\nreturn redis.error_reply(ARGV[1])\r\n$1\r\n0\r\n$%d\r\n%s\r\n", len(r.reply), r.reply)
}

// readCommand appends one command, an array of bulk strings, to b.
func readCommand(in *bufio.Reader, b []byte) ([]byte, error) {
	head, err := in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if head[0] != '*' {
		return nil, fmt.Errorf("not a command: %q", head)
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(head[1:])))
	if err != nil {
		return nil, err
	}
	b = append(b, head...)
	for range n {
		if head, err = in.ReadSlice('\n'); err != nil {
			return nil, err
		}
		size, err := strconv.Atoi(string(bytes.TrimSpace(head[1:])))
		if err != nil {
			return nil, err
		}
		b = append(b, head...)
		at := len(b)
		b = append(b, make([]byte, size+2)...)
		if _, err := io.ReadFull(in, b[at:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}
