package httpapi

import (
	deque "container/list"
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Doors bounds how many connections listeners have, and counts them.
type Doors struct {
	open *prometheus.GaugeVec
	shed *prometheus.CounterVec
}

// What happens to a connection that is too many.
const (
	shedWaiting = "waiting" // one that was not asking anything made room
	shedNew     = "new"     // none could, and the new one was closed
)

// NewDoors registers the metrics of connections; reg may be nil.
func NewDoors(reg prometheus.Registerer) *Doors {
	d := &Doors{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lamplighter_http_connections", Help: "Connections that are open, by listener.",
		}, []string{"listener"}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_http_connections_shed_total", Help: "Connections closed because a listener had too many: waiting ones, to make room, or new ones.",
		}, []string{"listener", "kind"}),
	}
	if reg != nil {
		reg.MustRegister(d.open, d.shed)
	}
	return d
}

// Bound returns what the server must serve in place of a listener, so that it has at most that many
// connections. One that is too many closes the one that has waited the longest for a request, or for
// the rest of a request's headers: who keeps connections without asking then locks nobody out. When
// all are being answered, the new one is closed. It sets the server's ConnState.
func (d *Doors) Bound(name string, l net.Listener, s *http.Server, most int) net.Listener {
	c := &crowd{
		Listener: l, most: most, open: map[net.Conn]*deque.Element{}, waiting: deque.New(), size: d.open.WithLabelValues(name),
		evicted: d.shed.WithLabelValues(name, shedWaiting), refused: d.shed.WithLabelValues(name, shedNew),
	}
	s.ConnState = c.state
	return c
}

// crowd is the connections of one listener.
type crowd struct {
	net.Listener
	most             int
	size             prometheus.Gauge
	evicted, refused prometheus.Counter

	mu sync.Mutex
	// open has the place in waiting of each connection, nil while it is being answered.
	open map[net.Conn]*deque.Element
	// waiting are those without a whole request, the longest first.
	waiting *deque.List
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
	if len(c.open) >= c.most {
		first := c.waiting.Front()
		if first == nil {
			c.refused.Inc()
			return conn
		}
		leaves, _ = first.Value.(net.Conn)
		c.forget(leaves)
		c.evicted.Inc()
	}
	c.open[conn] = c.waiting.PushBack(conn)
	c.size.Set(float64(len(c.open)))
	return leaves
}

// state hears from the server how its connections are.
func (c *crowd) state(conn net.Conn, now http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	place, in := c.open[conn]
	if !in { // it had to leave
		return
	}
	switch now {
	case http.StateActive:
		if place != nil {
			c.waiting.Remove(place)
			c.open[conn] = nil
		}
	case http.StateIdle:
		if place == nil {
			c.open[conn] = c.waiting.PushBack(conn)
		}
	case http.StateClosed, http.StateHijacked:
		c.forget(conn)
	case http.StateNew: // it waits since it came
	}
}

func (c *crowd) forget(conn net.Conn) {
	if place := c.open[conn]; place != nil {
		c.waiting.Remove(place)
	}
	delete(c.open, conn)
	c.size.Set(float64(len(c.open)))
}
