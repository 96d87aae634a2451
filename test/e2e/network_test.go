package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// network is a TCP proxy before Redis that can cut, stall and slow connections.
type network struct {
	addr, upstream string
	trouble        atomic.Int32

	mu       sync.Mutex
	listener net.Listener
	closed   bool
	conns    map[net.Conn]bool
	ended    sync.WaitGroup
}

// The troubles of a network.
const (
	noTrouble = iota
	lateAnswers
	// lostAnswers and lostCommands vanish; the connection is cut with its next bytes after the trouble.
	lostAnswers
	lostCommands
	slowAnswers
	troubles
)

// slowRate is in bytes a second.
const slowRate = 50 << 10

func newNetwork(t *testing.T, upstream string) *network {
	t.Helper()
	n := &network{addr: "127.0.0.1:0", upstream: upstream, conns: map[net.Conn]bool{}}
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.cut)
	return n
}

// open lets connections through.
func (n *network) open() error {
	l, err := net.Listen("tcp", n.addr)
	if err != nil {
		return err
	}
	n.addr = l.Addr().String()
	n.mu.Lock()
	n.listener, n.closed = l, false
	n.mu.Unlock()
	n.ended.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			n.ended.Go(func() { n.join(client) })
		}
	})
	return nil
}

// cut closes all connections and refuses others.
func (n *network) cut() {
	n.mu.Lock()
	n.closed = true
	_ = n.listener.Close()
	for c := range n.conns {
		_ = c.Close()
	}
	n.mu.Unlock()
	n.ended.Wait()
}

// keep notes connections, and closes them if the network was cut meanwhile.
func (n *network) keep(conns ...net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range conns {
		n.conns[c] = true
		if n.closed {
			_ = c.Close()
		}
	}
}

func (n *network) join(client net.Conn) {
	server, err := net.DialTimeout("tcp", n.upstream, time.Second)
	if err != nil {
		_ = client.Close()
		return
	}
	n.keep(client, server)
	var both sync.WaitGroup
	both.Go(func() { n.carry(server, client, lostCommands) })
	both.Go(func() { n.carry(client, server, lostAnswers, lateAnswers, slowAnswers) })
	both.Wait()
	n.mu.Lock()
	delete(n.conns, client)
	delete(n.conns, server)
	n.mu.Unlock()
}

// carry copies one direction, with the troubles that it may have, until one side ends.
func (n *network) carry(to, from net.Conn, may ...int32) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	buf := make([]byte, 32<<10)
	lost := false
	for {
		got, err := from.Read(buf)
		if err != nil {
			return
		}
		trouble := n.trouble.Load()
		for _, m := range may {
			if m != trouble {
				continue
			}
			switch m {
			case lateAnswers:
				<-time.After(20*time.Millisecond + rand.N(160*time.Millisecond))
			case slowAnswers:
				<-time.After(time.Duration(got) * time.Second / slowRate)
			default:
				lost = true
			}
		}
		if lost && trouble == noTrouble {
			return
		}
		if lost {
			continue
		}
		if _, err := to.Write(buf[:got]); err != nil {
			return
		}
	}
}

func (n *network) hurt(ctx context.Context, s *soak) error {
	pause(ctx, 300*time.Millisecond, 2*time.Second)
	began := time.Now()
	if rand.IntN(2) == 0 { // everything is cut at once, and refused for a while
		n.cut()
		pause(ctx, 0, time.Second)
		if err := n.open(); err != nil {
			return fmt.Errorf("let connections through again: %w", err)
		}
		return s.struck(ctx, redisCut, began)
	}
	n.trouble.Store(1 + rand.Int32N(troubles-1))
	pause(ctx, 200*time.Millisecond, 1500*time.Millisecond)
	err := s.struck(ctx, redisSlowed, began)
	n.trouble.Store(noTrouble)
	return err
}
