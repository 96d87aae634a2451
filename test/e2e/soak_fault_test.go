package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// until polls a condition; the error says that it did not come true in time.
func until(ctx context.Context, within time.Duration, what string, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %s", within, what)
		}
	}
	return nil
}

// supervise waits until a process is ready, and starts one again that ended by itself, as one does that
// found no Redis when it started.
func (s *soak) supervise(ctx context.Context, p *process) error {
	var failed error
	err := until(ctx, time.Minute, p.roles+" is ready", func() bool {
		if p.gone() {
			s.tally.add(endedItself)
			failed = p.launch()
		}
		return failed != nil || p.ready()
	})
	return errors.Join(err, failed)
}

// hurtProcess kills a process of the service and starts it again, or freezes it for a while: less than
// what is left of a claim's lease, which a post that was frozen half-way must not outlive.
func (s *soak) hurtProcess(ctx context.Context, p *process, kill, freeze fault) error {
	if err := s.supervise(ctx, p); err != nil {
		return err
	}
	pause(ctx, 200*time.Millisecond, 1200*time.Millisecond)
	began := time.Now()
	hit := func(f fault) error { // an API has nothing in flight
		if kill == workerKilled {
			return s.struck(ctx, f, began)
		}
		s.tally.add(f)
		return nil
	}
	if rand.IntN(5) == 0 {
		_ = p.cmd.Process.Signal(syscall.SIGSTOP)
		pause(ctx, 100*time.Millisecond, 4*time.Second)
		err := hit(freeze)
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		return err
	}
	p.kill()
	if err := hit(kill); err != nil {
		return err
	}
	if rand.IntN(3) == 0 {
		pause(ctx, 0, time.Second)
	}
	return p.launch()
}

// variant is one way to run Redis, and what can go wrong with it.
type variant struct {
	// url is what the service is told, direct is past the proxy.
	url, direct string
	settings    []string
	mayLose     bool
	hurt        func(ctx context.Context, s *soak) error
	network     *network
}

func newVariant(t *testing.T, name string) *variant {
	t.Helper()
	switch name {
	case "always", "everysec":
		return single(t, name)
	case "sentinel":
		return sentinel(t)
	case "cluster":
		return cluster(t)
	default:
		t.Fatalf("-soak.redis: %q is none of always, everysec, sentinel, cluster", name)
		return nil
	}
}

func single(t *testing.T, fsync string) *variant {
	p := redistest.Start(t, "--appendonly", "yes", "--appendfsync", fsync)
	n := newNetwork(t, p.Addr)
	return &variant{
		url: "redis://" + n.addr + "/0", direct: "redis://" + p.Addr + "/0", mayLose: fsync != "always", network: n,
		hurt: func(ctx context.Context, s *soak) error {
			pause(ctx, 500*time.Millisecond, 3*time.Second)
			began := time.Now()
			if s.tally.of(redisKilled) > 0 && rand.IntN(4) == 0 { // the first is what a short run must not miss
				p.Freeze()
				pause(ctx, 200*time.Millisecond, 2*time.Second)
				p.Thaw()
				return s.struck(ctx, redisFrozen, began)
			}
			p.Kill()
			pause(ctx, 0, 500*time.Millisecond)
			if err := p.Restart(); err != nil {
				return err
			}
			return s.struck(ctx, redisKilled, began)
		},
	}
}

// sentinel has a primary, a replica and three sentinels. A primary that is gone must stay away until
// it was replaced: one that is back earlier brings its own, older truth.
func sentinel(t *testing.T) *variant {
	fsync := []string{"--appendonly", "yes", "--appendfsync", "everysec"}
	primary := redistest.Start(t, fsync...)
	replica := redistest.StartReplica(t, primary, fsync...)
	watch := redistest.StartSentinels(t, primary, 3)
	return &variant{
		url: watch.URL(), direct: watch.URL(), settings: []string{"LAMPLIGHTER_REDIS_WAIT_REPLICAS=1"},
		hurt: func(ctx context.Context, s *soak) error {
			pause(ctx, time.Second, 3*time.Second)
			freeze, began := s.tally.of(redisKilled) > 0 && rand.IntN(3) == 0, time.Now()
			if freeze {
				primary.Freeze()
			} else {
				primary.Kill()
			}
			err := until(ctx, time.Minute, "the sentinels name the replica as primary", func() bool {
				addr, err := watch.Primary(ctx)
				return err == nil && addr == replica.Addr
			})
			if err != nil {
				primary.Thaw()
				return err
			}
			if err := s.struck(ctx, failedOver, began); err != nil {
				primary.Thaw()
				return err
			}
			if freeze {
				primary.Thaw()
				s.tally.add(redisFrozen)
			} else {
				if err := primary.Restart(); err != nil {
					return err
				}
				s.tally.add(redisKilled)
			}
			primary, replica = replica, primary
			rdb := replica.Client(t)
			defer func() { _ = rdb.Close() }()
			return until(ctx, time.Minute, "the former primary is a replica", func() bool { return redistest.Synced(ctx, rdb) })
		},
	}
}

// cluster has three primaries with a replica each: slots of the busiest keys move, primaries die.
func cluster(t *testing.T) *variant {
	c := redistest.StartCluster(t, 3, true, "--appendonly", "yes", "--appendfsync", "everysec")
	return &variant{
		url: c.URL(), direct: c.URL(), settings: []string{"LAMPLIGHTER_REDIS_WAIT_REPLICAS=1"},
		hurt: func(ctx context.Context, s *soak) error {
			pause(ctx, 500*time.Millisecond, 2*time.Second)
			if s.tally.of(slotMoved) > s.tally.of(redisKilled) {
				began := time.Now()
				if err := c.FailOver(t, rand.IntN(len(c.Primaries))); err != nil {
					return err
				}
				s.tally.add(redisKilled)
				return s.struck(ctx, failedOver, began)
			}
			key := "lamplighter:{" + s.rs[rand.IntN(len(s.rs))].id + "}:mailbox"
			if rand.IntN(3) == 0 {
				key = "lamplighter:{owed}:tenants_owed"
			}
			slot, err := c.Slot(ctx, key)
			if err != nil {
				return err
			}
			from := c.Holder(ctx, slot)
			if from == nil {
				return fmt.Errorf("nobody holds slot %d", slot)
			}
			to := c.Primaries[rand.IntN(len(c.Primaries))]
			if to == from {
				return nil
			}
			if err := c.MoveSlot(ctx, slot, from, to); err != nil {
				return err
			}
			s.tally.add(slotMoved)
			return nil
		},
	}
}

// sickness makes a receiver misbehave, in another way each turn.
type sickness struct {
	receiver *receiver
	// on switches the endpoint on again, which one that says it is gone was switched off for.
	on      func(ctx context.Context) error
	way     atomic.Int32
	mu      sync.Mutex
	stopped bool
}

// The ways; well comes twice, so that something is delivered in between.
const (
	well = iota
	wellAgain
	hangs
	refuses
	resets
	trickles
	answers500
	answers429
	answers410
	answersBeforeReading
	closesHalfway
	ways
)

// turn changes the way.
func (d *sickness) turn(ctx context.Context) error {
	gone := d.way.Load() == answers410
	d.set(rand.Int32N(ways))
	if gone {
		if err := d.on(ctx); err != nil {
			return err
		}
	}
	pause(ctx, 300*time.Millisecond, 3*time.Second)
	return nil
}

func (d *sickness) set(way int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.way.Store(way)
	switch {
	case way == refuses && !d.stopped:
		d.receiver.stop()
		d.stopped = true
	case way != refuses && d.stopped:
		d.receiver.start()
		d.stopped = false
	}
}

func (d *sickness) cure() { d.set(well) }

// behave handles a request the sick way; false leaves it to the receiver.
func (d *sickness) behave(w http.ResponseWriter, req *http.Request) bool {
	switch d.way.Load() {
	case hangs:
		select {
		case <-req.Context().Done():
		case <-time.After(10 * time.Second):
		}
	case resets:
		if conn := hijack(w); conn != nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	case trickles: // and never ends its answer
		w.WriteHeader(http.StatusInternalServerError)
		for range 20 {
			if _, err := w.Write([]byte(".")); err != nil {
				return true
			}
			_ = http.NewResponseController(w).Flush()
			<-time.After(100 * time.Millisecond) // its slowness
		}
		panic(http.ErrAbortHandler)
	case answers500:
		w.WriteHeader(http.StatusInternalServerError)
	case answers429:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case answers410:
		w.WriteHeader(http.StatusGone)
	case answersBeforeReading:
		w.WriteHeader(http.StatusServiceUnavailable)
	case closesHalfway:
		if conn := hijack(w); conn != nil {
			_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Le"))
			_ = conn.Close()
		}
	default:
		return false
	}
	return true
}

func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil && !errors.Is(err, http.ErrHijacked) {
		return nil
	}
	return conn
}
