package wire

import (
	"container/list"
	"maps"
	"sync"
	"time"
)

// pool holds idle connections, each host's newest last. When there are too many, the one that was idle longest is
// closed, whichever host it belongs to, so that a burst to some hosts costs the others little.
type pool struct {
	perHost, most int
	timeout       time.Duration

	mu     sync.Mutex
	hosts  map[string][]*conn
	idle   list.List   // of *conn, the one used last in front
	reaper *time.Timer // nil while nothing is idle
	closed bool
}

func newPool(perHost, most int, timeout time.Duration) *pool {
	return &pool{perHost: perHost, most: most, timeout: timeout, hosts: map[string][]*conn{}}
}

// take returns a host's connection that seems to be open, nil when there is none.
func (p *pool) take(host string) *conn {
	for {
		cn := p.pop(host)
		if cn == nil {
			return nil
		}
		now := time.Now()
		idle := now.Sub(cn.idleSince)
		if idle < p.timeout && now.Before(cn.expires) && (idle < checkAfter || cn.looksOpen()) {
			return cn
		}
		_ = cn.Close()
	}
}

func (p *pool) pop(host string) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.hosts[host]
	if len(kept) == 0 {
		return nil
	}
	cn := kept[len(kept)-1]
	p.removeAt(cn, len(kept)-1)
	return cn
}

// removeAt removes a connection from the pool, the nth of its host. p.mu is held.
func (p *pool) removeAt(cn *conn, n int) {
	kept := p.hosts[cn.host]
	copy(kept[n:], kept[n+1:])
	kept[len(kept)-1] = nil
	p.hosts[cn.host] = kept[:len(kept)-1] // an empty list keeps its memory until the reaper runs
	p.idle.Remove(cn.place)
	cn.place = nil
}

// popOldest removes the connection that was idle longest, nil when there is none. p.mu is held. It is the first of
// its host, since each host's connections are in the order of their use.
func (p *pool) popOldest() *conn {
	e := p.idle.Back()
	if e == nil {
		return nil
	}
	cn := e.Value.(*conn) //nolint:forcetypeassert // the list holds nothing else
	p.removeAt(cn, 0)
	return cn
}

// put keeps a connection, or closes it when its host has enough.
func (p *pool) put(cn *conn) {
	if extra := p.insertIdle(cn); extra != nil {
		_ = extra.Close()
	}
}

// insertIdle adds a connection and returns the one to close in exchange, maybe itself.
func (p *pool) insertIdle(cn *conn) (extra *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cn.idleSince = time.Now()
	if p.closed || len(p.hosts[cn.host]) >= p.perHost {
		return cn
	}
	if p.idle.Len() >= p.most {
		extra = p.popOldest()
	}
	p.hosts[cn.host] = append(p.hosts[cn.host], cn)
	cn.place = p.idle.PushFront(cn)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.timeout, p.closeStale)
	}
	return extra
}

// closeStale closes connections that were idle too long, and runs again while any are kept.
func (p *pool) closeStale() {
	for _, cn := range p.popStale() {
		_ = cn.Close()
	}
}

// popStale removes connections that were idle too long, and sets the reaper for the rest.
func (p *pool) popStale() (old []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.idle.Back(); e != nil && time.Since(e.Value.(*conn).idleSince) >= p.timeout; e = p.idle.Back() { //nolint:forcetypeassert // the list holds nothing else
		old = append(old, p.popOldest())
	}
	maps.DeleteFunc(p.hosts, func(_ string, kept []*conn) bool { return len(kept) == 0 })
	if p.reaper = nil; p.idle.Len() > 0 && !p.closed {
		p.reaper = time.AfterFunc(p.timeout/2, p.closeStale)
	}
	return old
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.reaper != nil {
		p.reaper.Stop()
	}
	for cn := p.popOldest(); cn != nil; cn = p.popOldest() {
		_ = cn.Close()
	}
}
