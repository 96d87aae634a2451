package ratelimit

import (
	"sync"
	"time"
)

// Set remembers names for a time: at least the last size of them.
type Set struct {
	keep time.Duration

	mu   sync.Mutex
	seen Map[time.Time]
}

// NewSet returns a Set that keeps names for that long.
func NewSet(keep time.Duration, size int) *Set {
	return &Set{keep: keep, seen: Map[time.Time]{Size: size}}
}

// Has reports whether a name is remembered.
func (s *Set) Has(name string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.seen.Get(name)
	return ok && now.Sub(at) < s.keep
}

// Add remembers a name from now on.
func (s *Set) Add(name string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Put(name, now)
}

// Remove forgets a name.
func (s *Set) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Remove(name)
}
