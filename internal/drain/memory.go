package drain

import (
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

const (
	// maxHealth bounds the memory of endpoints; beyond it those longest unused are forgotten.
	maxHealth = 20_000
	// healthLife is how long an unused endpoint's memory is kept once there are many.
	healthLife = 10 * time.Minute
)

// health is what this process remembers of an endpoint between runs. The part that processes share, the gate, lives in the
// mailbox. Two runs of one endpoint may overlap, so mu guards it, and what runs decide by it.
type health struct {
	mu       sync.Mutex
	endpoint circuit.Endpoint
	// life and revision name the endpoint that all this is about.
	life     mailbox.Life
	revision int64
}

func (h *health) with(f func(e *circuit.Endpoint)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.endpoint)
}

// memory holds every app's health, of its endpoint as it was in its last run.
type memory struct {
	mu   sync.Mutex
	apps map[partner.ClientID]*health
}

func newMemory() *memory { return &memory{apps: map[partner.ClientID]*health{}} }

// paceOf is the pace to begin with and the reserve to claim besides, as far as they are known before the
// endpoint is. For one that has not answered a small reserve is enough.
func (m *memory) paceOf(app partner.ClientID, limit int, now time.Time) (pace, reserve int) {
	h := m.known(app)
	alone := h == nil
	if pace = 1; !alone {
		h.with(func(e *circuit.Endpoint) { pace, alone = e.InitialLimit(limit, now) })
	}
	if alone {
		return pace, min(circuit.Floor-1, limit)
	}
	return pace, limit
}

// failing reports whether an app's endpoint did not answer the last time.
func (m *memory) failing(app partner.ClientID) (fails bool) {
	if h := m.known(app); h != nil {
		h.with(func(e *circuit.Endpoint) { fails = e.IsSilent() })
	}
	return fails
}

func (m *memory) known(app partner.ClientID) *health {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.apps[app]
}

// of returns the health of an endpoint. What was remembered of another one at its app says nothing of it.
func (m *memory) of(e Endpoint) *health {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.apps[e.Life.App]
	if h == nil && len(m.apps) >= maxHealth {
		m.forget(time.Now())
	}
	if h == nil || h.life != e.Life || h.revision != e.Revision {
		h = &health{life: e.Life, revision: e.Revision}
		m.apps[e.Life.App] = h
	}
	return h
}

// forget drops what was not used for healthLife; m.mu is held.
func (m *memory) forget(now time.Time) {
	for id, h := range m.apps {
		idle := time.Duration(0)
		h.with(func(e *circuit.Endpoint) { idle = e.IdleTime(now) })
		if idle > healthLife {
			delete(m.apps, id)
		}
	}
}
