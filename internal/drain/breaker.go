package drain

import (
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// Breaker settings.
const (
	breakerWindow = time.Minute
	breakerBucket = 10 * time.Second
	// breakerSample and breakerShare trip on an endpoint that fails half of the time.
	breakerSample = 20
	breakerShare  = 0.5
	// maxHealth bounds the memory of endpoints; beyond it those longest unused are forgotten.
	maxHealth = 20_000
	// healthLife is how long an unused endpoint's memory is kept once there are many.
	healthLife = 10 * time.Minute
)

var errFault = errors.New("endpoint fault")

// health is what this process remembers of an endpoint between runs. The part that replicas
// share, the gate, lives in the mailbox; so a breaker here only decides when to trip, and a
// tripped one is replaced: its half-open state is never used.
type health struct {
	mu      sync.Mutex
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	// lastWell is when the endpoint last showed that it works, lastDelivered when it last took a
	// notification: one that refuses everything works, but tells nothing of a failing one.
	// lastSuspect is when it failed and nothing since showed that it works.
	lastWell, lastDelivered, lastSuspect time.Time
	// pace is the limit of posts at once that the last run ended with, 0 when the endpoint failed.
	pace int
	used time.Time
	// life and revision name the endpoint that all this is about.
	life     mailbox.Life
	revision int64
}

// paceLife is how long the pace an endpoint took is believed.
const paceLife = time.Minute

// keepPace notes the pace at the end of a run, 0 when the endpoint failed.
func (h *health) keepPace(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pace = n
}

func newBreaker(failures uint32) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Interval: breakerWindow, BucketPeriod: breakerBucket,
		Timeout: 24 * time.Hour, // a tripped breaker is thrown away long before
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= failures ||
				c.Requests >= breakerSample && float64(c.TotalFailures) >= breakerShare*float64(c.Requests)
		},
	})
}

// count records an answer and reports whether the breaker tripped on it.
func (h *health) count(j judgement, now time.Time, failures uint32) (tripped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if j.well {
		h.lastWell = now
	}
	if j.verdict == mailbox.OK {
		h.lastDelivered = now
	}
	if j.suspect {
		h.lastSuspect = now
	}
	if !j.well && !j.fault {
		return false
	}
	done, err := h.breaker.Allow()
	if err != nil {
		return true
	}
	if j.fault {
		done(errFault)
	} else {
		done(nil)
	}
	if h.breaker.State() != gobreaker.StateOpen {
		return false
	}
	h.breaker = newBreaker(failures)
	return true
}

// start is the pace to begin with: the one it took a short while ago, else Floor. alone: the endpoint has
// not answered since this process started, or since its outage began, so one post at a time is enough.
func (h *health) start(limit int) (pace int, alone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lastWell.IsZero() || h.lastSuspect.After(h.lastWell) {
		return 1, true
	}
	return min(max(h.pace, Floor), limit), false
}

// times returns when the endpoint last worked and when it last took a notification.
func (h *health) times() (well, delivered time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastWell, h.lastDelivered
}

// memory holds every app's health, of its endpoint as it was in its last run.
type memory struct {
	mu       sync.Mutex
	failures uint32
	apps     map[partner.ClientID]*health
}

func newMemory(failures int) *memory {
	return &memory{failures: uint32(max(failures, 1)), apps: map[partner.ClientID]*health{}}
}

// paceOf is the pace to begin with and the reserve to claim besides, as far as they are known before the
// endpoint is. For one that has not answered a small reserve is enough.
func (m *memory) paceOf(app partner.ClientID, limit int, now time.Time) (pace, reserve int) {
	h := m.known(app)
	alone := h == nil
	if pace = 1; !alone {
		h.age(now)
		pace, alone = h.start(limit)
	}
	if alone {
		return pace, min(Floor-1, limit)
	}
	return pace, limit
}

// failing reports whether an app's endpoint failed the last time and answered nobody since.
func (m *memory) failing(app partner.ClientID) bool {
	h := m.known(app)
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastSuspect.After(h.lastWell)
}

func (m *memory) known(app partner.ClientID) *health {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.apps[app]
}

// of returns the health of an endpoint. What was remembered of another one at its app says nothing of it.
func (m *memory) of(e Endpoint, now time.Time) *health {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.apps[e.Life.App]
	if h == nil && len(m.apps) >= maxHealth {
		m.forget(now)
	}
	if h == nil || h.life != e.Life || h.revision != e.Revision {
		h = &health{breaker: newBreaker(m.failures), life: e.Life, revision: e.Revision}
		m.apps[e.Life.App] = h
	}
	h.age(now)
	return h
}

// age forgets a pace that is too old to be believed.
func (h *health) age(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.used) > paceLife {
		h.pace = 0
	}
	h.used = now
}

// forget drops what was not used for healthLife; m.mu is held.
func (m *memory) forget(now time.Time) {
	for id, h := range m.apps {
		h.mu.Lock()
		unused := now.Sub(h.used) > healthLife
		h.mu.Unlock()
		if unused {
			delete(m.apps, id)
		}
	}
}
