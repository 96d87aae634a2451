package registry_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// answerEater stands between a client and Redis. While it is armed, it takes the answer to the first request
// that names one of its words for itself and breaks the connection off, so that the client's library sends
// the request again.
type answerEater struct {
	addr string
	word []byte
	// eaten is called when Redis has answered and before the client knows that it will not hear.
	eaten func()
	armed atomic.Bool
}

func newAnswerEater(t *testing.T, upstream, word string) *answerEater {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noErr(t, "listen", err)
	e := &answerEater{addr: l.Addr().String(), word: []byte(word)}
	var work sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		work.Wait()
	})
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", upstream)
			if err != nil {
				_ = c.Close()
				return
			}
			var hungry atomic.Bool
			work.Go(func() {
				defer func() { _, _ = c.Close(), up.Close() }()
				e.pass(c, up, func(b []byte) bool {
					if bytes.Contains(b, e.word) && e.armed.CompareAndSwap(true, false) {
						hungry.Store(true)
					}
					return true
				})
			})
			work.Go(func() {
				defer func() { _, _ = c.Close(), up.Close() }()
				e.pass(up, c, func([]byte) bool {
					if !hungry.Load() {
						return true
					}
					e.eaten()
					return false
				})
			})
		}
	})
	return e
}

// pass copies until either end is closed, or look says no.
func (*answerEater) pass(from io.Reader, to io.Writer, look func([]byte) bool) {
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if !look(b[:n]) {
				return
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// TestTheLibrarysOwnRepeat breaks the connection off behind an accept that Redis ran, as a dying proxy does.
// Meanwhile another process accepts a newer change. The library sends the older one again, which must
// not stand behind the newer one then.
func TestTheLibrarysOwnRepeat(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "k"} {
		t.Run("key="+key, func(t *testing.T) {
			t.Parallel()
			p := redistest.Start(t)
			eater := newAnswerEater(t, p.Addr, "test:{Cust1}:changes")
			rdb, err := redisconn.New(redisconn.Options{URL: secret.New("redis://" + eater.addr)})
			noErr(t, "connect", err)
			t.Cleanup(func() { _ = rdb.Close() })
			s := newFixture(t, rdb, registry.Options{})
			other := newFixture(t, p.Client(t), registry.Options{})
			accept(t, s, change("Cust0", tenant.Suspend)) // loads the scripts
			meanwhile := make(chan registry.AcceptResult, 1)
			eater.eaten = func() {
				results, err := other.Accept(t.Context(), []registry.ChangeRequest{change("Cust1", tenant.Resume)})
				if err != nil {
					results = []registry.AcceptResult{{Err: err}}
				}
				meanwhile <- results[0]
			}
			eater.armed.Store(true)
			r := change("Cust1", tenant.Suspend)
			r.IdempotencyKey = key
			older := accept(t, s, r)[0]
			if eater.armed.Load() {
				t.Fatal("no answer was lost")
			}
			first := <-meanwhile
			noErr(t, "accept the newer", first.Err)
			newer := first.Accepted
			if older.Sequence >= newer.Sequence {
				t.Errorf("the older change was accepted again behind the newer: %d, %d", older.Sequence, newer.Sequence)
			}
			same(t, "changes", len(must[[]tenant.Change](t)(s.Changes(t.Context(), "Cust1", 0))), 2)
			same(t, "state", must[tenant.Status](t)(s.Status(t.Context(), "Cust1")).State, tenant.Running)
		})
	}
}

// TestOrderWhileClocksJump moves Redis' clock back and forth by hours and days between changes of a
// counting source, with copies that come late: sequences grow, and so does what the source counts.
func TestOrderWhileClocksJump(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	s := newFixture(t, rdb, registry.Options{})
	last := int64(0)
	for i, by := range []time.Duration{0, -time.Hour, 48 * time.Hour, -72 * time.Hour, time.Millisecond, -time.Millisecond, 100 * 24 * time.Hour, -100 * 24 * time.Hour} {
		m.SetTime(t0.Add(by))
		numbered := func(key string, source int, typ tenant.ChangeType) registry.ChangeRequest {
			r := change("Cust1", typ)
			r.IdempotencyKey, r.SourceSequence = key, int64(source)
			return r
		}
		for _, r := range []registry.ChangeRequest{numbered("", 0, tenant.Upgrade), numbered(fmt.Sprint("k", i), i+1, tenant.Resume)} {
			a := accept(t, s, r)[0]
			if a.Sequence <= last {
				t.Errorf("%v: sequence %d after %d", by, a.Sequence, last)
			}
			last = a.Sequence
		}
		for _, late := range []registry.ChangeRequest{numbered("", i+1, tenant.Delete), numbered("late", i, tenant.Delete)} {
			if late.SourceSequence == 0 {
				continue
			}
			res := must[[]registry.AcceptResult](t)(s.Accept(t.Context(), []registry.ChangeRequest{late}))[0]
			wantErr(t, fmt.Sprint(by, ": late"), res.Err, registry.ErrOutOfOrder)
		}
		v := must[registry.TenantView](t)(s.Tenant(t.Context(), "Cust1"))
		if v.Record.Top != last || v.Status.State != tenant.Running || v.SourceSequence != int64(i+1) {
			t.Errorf("%v: %v at %d, counted %d; want Running at %d, %d", by, v.Status.State, v.Record.Top, v.SourceSequence, last, i+1)
		}
	}
	same(t, "listed", must[int64](t)(s.CountPendingFanouts(t.Context(), 0)), int64(1))
}
