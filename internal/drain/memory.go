package drain

import (
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

const (
	// maxMemories bounds the memory of endpoints; beyond it those longest unused are forgotten.
	maxMemories = 20_000
	// memoryLife is how long an unused endpoint's memory is kept once there are many.
	memoryLife = 10 * time.Minute
)

// endpointMemory is what this process remembers of an endpoint between runs. The part that processes share, the gate, lives in the
// mailbox. Two runs of one endpoint may overlap, so mu guards it, and what runs decide by it.
type endpointMemory struct {
	mu       sync.Mutex
	endpoint circuit.Endpoint
	// life and revision name the endpoint that all this is about.
	life     mailbox.Life
	revision int64
}

func (h *endpointMemory) withEndpoint(f func(e *circuit.Endpoint)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.endpoint)
}

// endpointMemories holds every app's health, of its endpoint as it was in its last run.
type endpointMemories struct {
	mu   sync.Mutex
	apps map[partner.ClientID]*endpointMemory
}

func newEndpointMemories() *endpointMemories {
	return &endpointMemories{apps: map[partner.ClientID]*endpointMemory{}}
}

// initialPace is the pace to begin with and the reserve to claim besides, as far as they are known before the
// endpoint is. For one that has not answered a small reserve is enough.
func (m *endpointMemories) initialPace(app partner.ClientID, limit int, now time.Time) (pace, reserve int) {
	h := m.findMemory(app)
	alone := h == nil
	if pace = 1; !alone {
		h.withEndpoint(func(e *circuit.Endpoint) { pace, alone = e.InitialLimit(limit, now) })
	}
	if alone {
		return pace, min(circuit.Floor-1, limit)
	}
	return pace, limit
}

// isFailing reports whether an app's endpoint did not answer the last time.
func (m *endpointMemories) isFailing(app partner.ClientID) (fails bool) {
	if h := m.findMemory(app); h != nil {
		h.withEndpoint(func(e *circuit.Endpoint) { fails = e.IsSilent() })
	}
	return fails
}

func (m *endpointMemories) findMemory(app partner.ClientID) *endpointMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.apps[app]
}

// memoryOf returns the health of an endpoint. What was remembered of another one at its app says nothing of it.
func (m *endpointMemories) memoryOf(e Endpoint) *endpointMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.apps[e.Life.App]
	if h == nil && len(m.apps) >= maxMemories {
		m.dropUnused(time.Now())
	}
	if h == nil || h.life != e.Life || h.revision != e.Revision {
		h = &endpointMemory{life: e.Life, revision: e.Revision}
		m.apps[e.Life.App] = h
	}
	return h
}

// dropUnused drops what was not used for memoryLife; m.mu is held.
func (m *endpointMemories) dropUnused(now time.Time) {
	for id, h := range m.apps {
		idle := time.Duration(0)
		h.withEndpoint(func(e *circuit.Endpoint) { idle = e.IdleTime(now) })
		if idle > memoryLife {
			delete(m.apps, id)
		}
	}
}
