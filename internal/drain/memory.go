package drain

import (
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

const (
	// maxMemories limits how many endpoints are remembered. At the limit, those unused for memoryLife are dropped.
	maxMemories = 20_000
	// memoryLife is how long an unused endpoint is kept once maxMemories is reached.
	memoryLife = 10 * time.Minute
)

// endpointMemory is what this process remembers of an endpoint between runs. The shared part, the cool-down, is
// stored in the mailbox. Two runs of one endpoint may overlap, so mu guards it and the decisions of runs.
type endpointMemory struct {
	mu       sync.Mutex
	endpoint circuit.Endpoint
	// life and revision identify the endpoint that the rest describes.
	life     mailbox.Life
	revision int64
}

func (h *endpointMemory) withEndpoint(f func(e *circuit.Endpoint)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.endpoint)
}

// endpointMemories holds the memory of each app's endpoint, as it was in the last run.
type endpointMemories struct {
	mu   sync.Mutex
	apps map[partner.ClientID]*endpointMemory
}

func newEndpointMemories() *endpointMemories {
	return &endpointMemories{apps: map[partner.ClientID]*endpointMemory{}}
}

// initialPace returns the pace and the reserve of claims to begin with, before the endpoint is known. For an endpoint
// that has not answered, a small reserve is enough.
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

// memoryOf returns the memory of an endpoint. A memory of an earlier endpoint of the app is replaced.
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

// dropUnused drops memories that were not used for memoryLife. m.mu is held.
func (m *endpointMemories) dropUnused(now time.Time) {
	for id, h := range m.apps {
		idle := time.Duration(0)
		h.withEndpoint(func(e *circuit.Endpoint) { idle = e.IdleTime(now) })
		if idle > memoryLife {
			delete(m.apps, id)
		}
	}
}
