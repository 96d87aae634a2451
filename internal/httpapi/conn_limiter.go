package httpapi

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ConnLimiter bounds and counts the connections of listeners.
type ConnLimiter struct {
	open *prometheus.GaugeVec
	shed *prometheus.CounterVec
}

// Which connection is closed when there are too many.
const (
	shedWaiting = "waiting" // one that kept the service waiting
	shedNew     = "new"     // the new one, because none did
)

// NewConnLimiter registers the metrics of connections; reg may be nil.
func NewConnLimiter(reg prometheus.Registerer) *ConnLimiter {
	l := &ConnLimiter{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lamplighter_http_connections", Help: "Connections that are open, by listener.",
		}, []string{"listener"}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_http_connections_shed_total", Help: "Connections closed because a listener, or one address at it, had too many: waiting ones, to make room, or new ones.",
		}, []string{"listener", "kind"}),
	}
	if reg != nil {
		reg.MustRegister(l.open, l.shed)
	}
	return l
}

// ConnLimits bounds the connections of a listener.
type ConnLimits struct {
	// Total bounds all of them, PerAddress those of one address: an IPv4 address or an IPv6 /64.
	Total, PerAddress int
	// Exempt are addresses without a limit of their own, such as proxies, behind which are other callers.
	Exempt []netip.Prefix
}

// LimitListener returns a listener that the server must serve in place of l. It has no more connections than the limits
// allow, and sets the server's ConnState and ConnContext.
//
// When there is one too many, the connection is closed that has kept the service waiting for longest, among all or among
// those of the same address. A connection keeps the service waiting while its body is read or its answer is written,
// unless a valid token came with the request; and between requests, or while headers are read. Of both kinds, the former
// is closed first if it has lasted for slowAfter, else the latter. When there is none of either kind, the new one is closed.
func (l *ConnLimiter) LimitListener(name string, inner net.Listener, s *http.Server, limits ConnLimits) net.Listener {
	c := &listenerConns{
		Listener: inner, limits: limits, open: map[net.Conn]*trackedConn{}, addresses: map[string]*addressConns{}, sheddable: newShedQueues(),
		size: l.open.WithLabelValues(name), evicted: l.shed.WithLabelValues(name, shedWaiting), refused: l.shed.WithLabelValues(name, shedNew),
	}
	s.ConnState = c.trackState
	s.ConnContext = c.addToContext
	return c
}

// listenerConns are the connections of one listener.
type listenerConns struct {
	net.Listener
	limits           ConnLimits
	size             prometheus.Gauge
	evicted, refused prometheus.Counter

	mu        sync.Mutex
	open      map[net.Conn]*trackedConn
	addresses map[string]*addressConns
	sheddable shedQueues
}

// trackedConn is one connection. It is nil for a request that came through another listener, as in tests.
type trackedConn struct {
	of      *listenerConns
	conn    net.Conn
	address *addressConns // nil for one that is exempt
	// kind is which queue it is in, since when; inAll and inAddress are its elements there, nil while it may not be closed.
	kind             int
	since            time.Time
	inAll, inAddress *list.Element
	// trusted is true once a good token came with the request that is being answered. The connection's own goroutine
	// alone uses it.
	trusted bool
}

// addressConns are the connections of one address.
type addressConns struct {
	name      string
	open      int
	sheddable shedQueues
}

// shedQueues hold the connections that may be closed, by kind; in each, the one that is there the longest is closed first.
type shedQueues [2]*list.List

// The kinds.
const (
	slowConn = iota // its body is read, or its answer written
	idleConn        // no request is being handled
)

// slowAfter is how long a body or an answer may take before its connection is closed in preference to an idle one: most
// bodies and answers take less.
const slowAfter = 100 * time.Millisecond

func newShedQueues() shedQueues { return shedQueues{list.New(), list.New()} }

// nextToClose is the connection to close, nil for none.
func (q shedQueues) nextToClose(now time.Time) *trackedConn {
	slow, idle := longestQueuedConn(q[slowConn]), longestQueuedConn(q[idleConn])
	if idle == nil || slow != nil && now.Sub(slow.since) >= slowAfter {
		return slow
	}
	return idle
}

func longestQueuedConn(queue *list.List) *trackedConn {
	e := queue.Front()
	if e == nil {
		return nil
	}
	t, _ := e.Value.(*trackedConn)
	return t
}

type connKey struct{}

// addToContext lets requests find their connection.
func (c *listenerConns) addToContext(ctx context.Context, conn net.Conn) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.open[conn]; t != nil {
		return context.WithValue(ctx, connKey{}, t)
	}
	return ctx
}

func connFromContext(ctx context.Context) *trackedConn {
	t, _ := ctx.Value(connKey{}).(*trackedConn)
	return t
}

// Accept returns the next connection that the limits allow.
func (c *listenerConns) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		surplus := c.add(conn)
		if surplus == nil {
			return conn, nil
		}
		_ = surplus.Close()
		if surplus != conn {
			return conn, nil
		}
	}
}

// add adds a connection, and returns the one that must be closed: another, itself, or nil.
func (c *listenerConns) add(conn net.Conn) (surplus net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &trackedConn{of: c, conn: conn, address: c.addressOf(conn)}
	var full *shedQueues
	switch {
	case t.address != nil && t.address.open >= c.limits.PerAddress:
		full = &t.address.sheddable
	case len(c.open) >= c.limits.Total:
		full = &c.sheddable
	}
	if full != nil {
		victim := full.nextToClose(time.Now())
		if victim == nil {
			c.refused.Inc()
			return conn
		}
		surplus = victim.conn
		c.remove(victim)
		c.evicted.Inc()
	}
	if t.address != nil {
		c.addresses[t.address.name] = t.address
		t.address.open++
	}
	c.open[conn] = t
	c.makeSheddable(t, idleConn)
	c.size.Set(float64(len(c.open)))
	return surplus
}

// addressOf is the address to which a connection is counted, nil for an exempt one.
func (c *listenerConns) addressOf(conn net.Conn) *addressConns {
	from := conn.RemoteAddr().String()
	if ap, err := netip.ParseAddrPort(from); err == nil && containsAddr(c.limits.Exempt, ap.Addr()) {
		return nil
	}
	name := addressName(from)
	if a := c.addresses[name]; a != nil {
		return a
	}
	return &addressConns{name: name, sheddable: newShedQueues()}
}

// trackState is the server's ConnState. It does nothing when a request begins: limitBodies marks the connection then.
func (c *listenerConns) trackState(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, known := c.open[conn]
	if !known { // it was closed to make room
		return
	}
	switch state {
	case http.StateIdle:
		c.makeSheddable(t, idleConn)
	case http.StateClosed, http.StateHijacked:
		c.remove(t)
	case http.StateNew, http.StateActive:
	}
}

// makeSheddable puts a connection at the end of a queue.
func (c *listenerConns) makeSheddable(t *trackedConn, kind int) {
	c.removeFromQueue(t)
	t.kind, t.since = kind, time.Now()
	t.inAll = c.sheddable[kind].PushBack(t)
	if t.address != nil {
		t.inAddress = t.address.sheddable[kind].PushBack(t)
	}
}

// removeFromQueue removes a connection from its queue.
func (c *listenerConns) removeFromQueue(t *trackedConn) {
	if t.inAll == nil {
		return
	}
	c.sheddable[t.kind].Remove(t.inAll)
	if t.address != nil {
		t.address.sheddable[t.kind].Remove(t.inAddress)
	}
	t.inAll, t.inAddress = nil, nil
}

func (c *listenerConns) remove(t *trackedConn) {
	if c.open[t.conn] != t {
		return
	}
	c.removeFromQueue(t)
	delete(c.open, t.conn)
	if t.address != nil {
		if t.address.open--; t.address.open == 0 {
			delete(c.addresses, t.address.name)
		}
	}
	c.size.Set(float64(len(c.open)))
}

// markSlow marks a connection that keeps the service waiting; it may be closed.
func (t *trackedConn) markSlow() {
	if t == nil || t.trusted {
		return
	}
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	if t.of.open[t.conn] == t {
		t.of.makeSheddable(t, slowConn)
	}
}

// markServed marks a connection for which the service works; it is not closed meanwhile.
func (t *trackedConn) markServed() {
	if t == nil || t.trusted {
		return
	}
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	t.of.removeFromQueue(t)
}

// markTrusted records that a valid token came with the request.
func (t *trackedConn) markTrusted() {
	if t == nil {
		return
	}
	t.markServed()
	t.trusted = true
}
