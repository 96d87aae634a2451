package httpapi

import (
	deque "container/list"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Doors bounds how many connections listeners have, and counts them.
type Doors struct {
	open *prometheus.GaugeVec
	shed *prometheus.CounterVec
}

// What happens to a connection that is too many.
const (
	shedWaiting = "waiting" // one that no good token stands for made room
	shedNew     = "new"     // none could, and the new one was closed
)

// NewDoors registers the metrics of connections; reg may be nil.
func NewDoors(reg prometheus.Registerer) *Doors {
	d := &Doors{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lamplighter_http_connections", Help: "Connections that are open, by listener.",
		}, []string{"listener"}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_http_connections_shed_total", Help: "Connections closed because a listener, or one address at it, had too many: waiting ones, to make room, or new ones.",
		}, []string{"listener", "kind"}),
	}
	if reg != nil {
		reg.MustRegister(d.open, d.shed)
	}
	return d
}

// Room is how many connections a listener has at most.
type Room struct {
	// Most is the number of all, PerAddress that of one address: an IPv4 address or an IPv6 /64.
	Most, PerAddress int
	// Exempt have no share of their own, because others are behind them.
	Exempt []netip.Prefix
}

// Bound returns what the server must serve in place of a listener, so that it has no more connections
// than there is room for. One that is too many closes the one that has waited the longest among all, or
// among those of its address. A connection waits while no good token stands for what it does: while its
// body comes or it is slow to take an answer, and, which are closed after those, between requests and
// while its headers come. When none waits, the new one is closed. So who connects, promises or dawdles
// keeps nobody else out. It sets the server's ConnState and ConnContext.
func (d *Doors) Bound(name string, l net.Listener, s *http.Server, room Room) net.Listener {
	c := &crowd{
		Listener: l, room: room, open: map[net.Conn]*visitor{}, peers: map[string]*peer{}, waiting: newLines(), size: d.open.WithLabelValues(name),
		evicted: d.shed.WithLabelValues(name, shedWaiting), refused: d.shed.WithLabelValues(name, shedNew),
	}
	s.ConnState = c.state
	s.ConnContext = c.introduce
	return c
}

// crowd is the connections of one listener.
type crowd struct {
	net.Listener
	room             Room
	size             prometheus.Gauge
	evicted, refused prometheus.Counter

	mu    sync.Mutex
	open  map[net.Conn]*visitor
	peers map[string]*peer
	// waiting are the visitors that may be closed.
	waiting *lines
}

// lines are the visitors that may be closed, in the order in which they are.
type lines [2]*deque.List

// The lines, the first first; in each, who has waited the longest goes first.
const (
	dawdling = iota // the service waits for a body, or for an answer to be taken
	silent          // nothing was asked yet
)

func newLines() *lines { return &lines{deque.New(), deque.New()} }

// dawdlesAfter is how long a body or an answer may take before its connection goes before those that asked nothing: most
// bodies are on their way, and most answers are taken at once.
const dawdlesAfter = 100 * time.Millisecond

// first is who goes first, nil for nobody.
func (l *lines) first(now time.Time) *visitor {
	slow, mute := front(l[dawdling]), front(l[silent])
	if mute == nil || slow != nil && now.Sub(slow.since) >= dawdlesAfter {
		return slow
	}
	return mute
}

func front(line *deque.List) *visitor {
	e := line.Front()
	if e == nil {
		return nil
	}
	v, _ := e.Value.(*visitor)
	return v
}

// visitor is one connection. A nil one is a request that came by no listener of ours.
type visitor struct {
	crowd *crowd
	conn  net.Conn
	peer  *peer // nil for one that is exempt
	// place and placeOfPeer are where it stands in a line, nil while it may not be closed.
	line               int
	since              time.Time
	place, placeOfPeer *deque.Element
	// vouched is true once a good token came with the request that is being answered. The connection's
	// own goroutine alone uses it.
	vouched bool
}

// peer is one address.
type peer struct {
	address string
	open    int
	waiting *lines
}

type visitorKey struct{}

// introduce lets requests find their connection.
func (c *crowd) introduce(ctx context.Context, conn net.Conn) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.open[conn]; v != nil {
		return context.WithValue(ctx, visitorKey{}, v)
	}
	return ctx
}

func visitorOf(ctx context.Context) *visitor {
	v, _ := ctx.Value(visitorKey{}).(*visitor)
	return v
}

// Accept returns the next connection that there is room for.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		leaves := c.admit(conn)
		if leaves == nil {
			return conn, nil
		}
		_ = leaves.Close()
		if leaves != conn {
			return conn, nil
		}
	}
}

// admit takes a connection in, and returns one that must be closed: another, itself, or none.
func (c *crowd) admit(conn net.Conn) (leaves net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := &visitor{crowd: c, conn: conn, peer: c.peerOf(conn)}
	var queue *lines
	switch {
	case v.peer != nil && v.peer.open >= c.room.PerAddress:
		queue = v.peer.waiting
	case len(c.open) >= c.room.Most:
		queue = c.waiting
	}
	if queue != nil {
		first := queue.first(time.Now())
		if first == nil {
			c.refused.Inc()
			return conn
		}
		leaves = first.conn
		c.forget(first)
		c.evicted.Inc()
	}
	if v.peer != nil {
		c.peers[v.peer.address] = v.peer
		v.peer.open++
	}
	c.open[conn] = v
	c.queue(v, silent)
	c.size.Set(float64(len(c.open)))
	return leaves
}

// peerOf is whom a connection counts for.
func (c *crowd) peerOf(conn net.Conn) *peer {
	from := conn.RemoteAddr().String()
	if ap, err := netip.ParseAddrPort(from); err == nil && inAny(c.room.Exempt, ap.Addr()) {
		return nil
	}
	address := network(from)
	if p := c.peers[address]; p != nil {
		return p
	}
	return &peer{address: address, waiting: newLines()}
}

// state hears from the server how its connections are. A request that begins is no news: the door says
// what its connection does.
func (c *crowd) state(conn net.Conn, now http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, in := c.open[conn]
	if !in { // it had to leave
		return
	}
	switch now {
	case http.StateIdle:
		c.queue(v, silent)
	case http.StateClosed, http.StateHijacked:
		c.forget(v)
	case http.StateNew, http.StateActive:
	}
}

// queue puts a visitor at the end of a line.
func (c *crowd) queue(v *visitor, line int) {
	c.unqueue(v)
	v.line, v.since = line, time.Now()
	v.place = c.waiting[line].PushBack(v)
	if v.peer != nil {
		v.placeOfPeer = v.peer.waiting[line].PushBack(v)
	}
}

// unqueue takes a visitor out of its line.
func (c *crowd) unqueue(v *visitor) {
	if v.place == nil {
		return
	}
	c.waiting[v.line].Remove(v.place)
	if v.peer != nil {
		v.peer.waiting[v.line].Remove(v.placeOfPeer)
	}
	v.place, v.placeOfPeer = nil, nil
}

func (c *crowd) forget(v *visitor) {
	if c.open[v.conn] != v {
		return
	}
	c.unqueue(v)
	delete(c.open, v.conn)
	if v.peer != nil {
		if v.peer.open--; v.peer.open == 0 {
			delete(c.peers, v.peer.address)
		}
	}
	c.size.Set(float64(len(c.open)))
}

// dawdle says that the visitor keeps the service waiting.
func (v *visitor) dawdle() {
	if v == nil || v.vouched {
		return
	}
	v.crowd.mu.Lock()
	defer v.crowd.mu.Unlock()
	if v.crowd.open[v.conn] == v {
		v.crowd.queue(v, dawdling)
	}
}

// stay says that the service works for the visitor, which may not be closed meanwhile.
func (v *visitor) stay() {
	if v == nil || v.vouched {
		return
	}
	v.crowd.mu.Lock()
	defer v.crowd.mu.Unlock()
	v.crowd.unqueue(v)
}

// vouch says that a good token came with the request.
func (v *visitor) vouch() {
	if v == nil {
		return
	}
	v.stay()
	v.vouched = true
}
