package causewatch_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/causewatch"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// world is some processes on one Redis, whose clock the test moves on.
type world struct {
	*testing.T

	rdb     redis.UniversalClient
	store   *registry.Store
	moved   time.Duration
	watches []*causewatch.Watch
	regs    []*prometheus.Registry
	away    bool
	started int
}

var errAway = errors.New("connection refused")

// shifted is the store as it is some time later.
type shifted struct{ w *world }

func (s shifted) ShareReach(ctx context.Context, process, report string) (registry.Reach, error) {
	if s.w.away {
		return registry.Reach{}, errAway
	}
	r, err := s.w.store.ShareReach(ctx, process, report)
	r.Now = r.Now.Add(s.w.moved)
	return r, err
}

func (s shifted) PutCommonCause(ctx context.Context, was, next string) (bool, error) {
	return s.w.store.PutCommonCause(ctx, was, next)
}

func each(t *testing.T, processes int, f func(w *world)) {
	t.Helper()
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := &world{T: t, rdb: rdb, store: registry.New(rdb, registry.Options{Keys: keys.New("test"), Keyring: ring(t)})}
		for range processes {
			w.start()
		}
		f(w)
	})
}

// ring is a keyring with which nothing is ever sealed.
func ring(t *testing.T) *secret.Keyring {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	if err != nil {
		t.Fatal(err)
	}
	return secret.NewKeyring(k)
}

// start begins another process, whose clock is a minute ahead of the one before.
func (w *world) start() {
	reg, ahead := prometheus.NewPedanticRegistry(), time.Duration(len(w.watches))*time.Minute
	w.started++
	w.regs = append(w.regs, reg)
	w.watches = append(w.watches, causewatch.New(causewatch.Options{
		Store: shifted{w}, Process: fmt.Sprint("process", w.started), Within: 2 * time.Minute, Metrics: causewatch.NewMetrics(reg),
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Now().Add(w.moved + ahead) },
	}))
}

// turns lets each process take a turn.
func (w *world) turns() {
	w.Helper()
	for _, p := range w.watches {
		if err := p.ShareAndDecide(w.Context()); err != nil {
			w.Fatal(err)
		}
	}
}

// pass lets time pass, in which processes fail with hosts each 10 s, and take their turns.
func (w *world) pass(spell time.Duration, hosts int, by ...int) {
	w.Helper()
	for range int(spell / (5 * time.Second)) {
		w.moved += 5 * time.Second
		for n := range hosts {
			p := w.watches[by[n%len(by)]]
			host := fmt.Sprintf("h%d.example:8443", n)
			p.NoteAddress(host, netip.AddrFrom4([4]byte{203, byte(n % 4), 1, byte(n)}))
			p.NoteFailure(host)
		}
		w.turns()
	}
}

// want asks each process whether a common cause lasts, since about when.
func (w *world) want(what string, lasts bool, ago time.Duration) {
	w.Helper()
	for i, p := range w.watches {
		c := p.CommonCause()
		if c.IsOngoing() != lasts {
			w.Errorf("%s, process %d: %+v", what, i, c)
			continue
		}
		if !lasts {
			continue
		}
		since := time.Now().Add(w.moved + time.Duration(i)*time.Minute).Sub(c.Since)
		if since < ago-7*time.Second || since > ago+15*time.Second {
			w.Errorf("%s, process %d: since %v, by its own clock; want %v", what, i, since, ago)
		}
	}
}

func (w *world) metric(process int, name string) float64 {
	w.Helper()
	all, err := w.regs[process].Gather()
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	w.Fatalf("no metric %s", name)
	return 0
}

// Two workers each see too little, and a third process calls nobody: all three know, by their own clocks, until one is answered.
func TestProcessesTogether(t *testing.T) {
	each(t, 3, func(w *world) {
		w.turns()
		w.watches[0].NoteAnswer("h0.example")
		w.turns()
		w.pass(20*time.Second, 6, 0, 1)
		w.want("too short", false, 0)
		w.pass(20*time.Second, 6, 0, 1)
		w.want("cut", true, 40*time.Second)
		for i := range w.watches {
			if since, hosts := w.metric(i, "lamplighter_common_cause_since_timestamp_seconds"), w.metric(i, "lamplighter_common_cause_hosts"); since == 0 || hosts != 6 {
				w.Errorf("metrics of process %d: since %v, %v hosts", i, since, hosts)
			}
		}
		w.watches[1].NoteAnswer("elsewhere.example")
		w.turns()
		w.turns()
		w.want("one answer", false, 0)
		if since := w.metric(2, "lamplighter_common_cause_since_timestamp_seconds"); since != 0 {
			w.Errorf("the metric says since %v", since)
		}
	})
}

// A worker that begins in the middle of it knows of it with its first turn, and one that has ended goes on counting for a while.
func TestRestarts(t *testing.T) {
	each(t, 2, func(w *world) {
		w.turns()
		w.pass(5*time.Minute, 8, 0, 1)
		w.want("cut", true, 5*time.Minute)
		w.watches, w.regs = w.watches[:0], w.regs[:0]
		w.start()
		w.turns()
		w.want("a new process", true, 5*time.Minute)
		w.pass(5*time.Minute, 8, 0)
		w.want("it goes on", true, 10*time.Minute)
	})
}

// Where Redis is away the last word holds; what cannot be read counts for nothing, and is no reason to stop.
func TestStoreFaults(t *testing.T) {
	each(t, 2, func(w *world) {
		w.turns()
		w.pass(time.Minute, 6, 0, 1)
		w.want("cut", true, time.Minute)
		w.away = true
		if err := w.watches[0].ShareAndDecide(w.Context()); !errors.Is(err, errAway) {
			w.Errorf("turn without Redis: %v", err)
		}
		w.want("without Redis", true, time.Minute)
		w.away = false
		space := keys.New("test")
		w.rdb.HSet(w.Context(), space.Config(keys.ConfigReach), "odd", fmt.Sprintf(`%d;{"v":9}`, time.Now().UnixMilli()))
		if err := w.watches[0].ShareAndDecide(w.Context()); err == nil || !strings.Contains(err.Error(), "format 9") {
			w.Errorf("turn with an unreadable report: %v", err)
		}
		w.want("with an unreadable report", true, time.Minute)
		w.rdb.Set(w.Context(), space.Config(keys.ConfigCommonCause), "odd", 0)
		_ = w.watches[0].ShareAndDecide(w.Context())
		w.want("with an unreadable cause", true, time.Minute)
	})
}

// Who has not heard of the others, or not for a while, blames nobody, but not for ever.
func TestUnknown(t *testing.T) {
	each(t, 1, func(w *world) {
		holds := func() bool { return w.watches[0].CommonCause().DelaysMails(time.Now().Add(w.moved)) }
		var got []bool
		note := func() { got = append(got, holds()) }
		note()
		w.turns()
		note()
		w.moved += 29 * time.Second
		note()
		w.moved += 2 * time.Second
		note()
		w.moved += 20 * time.Minute
		note()
		w.moved += 5 * time.Minute
		note()
		w.turns()
		note()
		if want := []bool{true, false, false, true, true, false, false}; !slices.Equal(got, want) {
			w.Errorf("holds %v, want %v", got, want)
		}
	})
}

// The dial notes where a host is, by its connections and by what dialling them came to.
func TestDial(t *testing.T) {
	each(t, 1, func(w *world) {
		w.turns()
		p, n := w.watches[0], 0
		dial := p.WrapDial(func(context.Context, string, string) (net.Conn, error) {
			n++
			at := &net.TCPAddr{IP: net.IPv4(203, byte(n), 0, 1), Port: 443}
			if n%2 == 0 {
				return conn{at: at}, nil
			}
			return nil, &net.OpError{Op: "dial", Addr: at, Err: errAway}
		})
		for range 8 {
			w.moved += 5 * time.Second
			n = 0
			for i := range 5 { // of one zone, but of five networks
				host := fmt.Sprintf("h%d.one.example", i)
				_, _ = dial(w.Context(), "tcp", host+":443")
				p.NoteFailure(host)
			}
			w.turns()
		}
		w.want("five networks", true, 35*time.Second)
		resolver := &net.DNSError{Err: "no such host"}
		if _, err := p.WrapDial(func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: resolver}
		})(w.Context(), "tcp", "a.example:443"); !errors.Is(err, resolver) {
			w.Errorf("dial: %v", err)
		}
	})
}

// conn is a connection of which only the address is asked.
type conn struct {
	net.Conn

	at net.Addr
}

func (c conn) RemoteAddr() net.Addr { return c.at }
