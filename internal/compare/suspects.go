package compare

import (
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// suspect is a pair that looked wrong once.
type suspect struct {
	app    partner.ClientID
	tenant tenant.ID
	first  PairSnapshot
	at     time.Time
}

// suspects wait for their second look, the oldest first. Its zero value is ready for use.
type suspects struct{ waiting []suspect }

func (s *suspects) add(v suspect) { s.waiting = append(s.waiting, v) }

func (s *suspects) len() int { return len(s.waiting) }

// takeRipe takes the suspects of one app, most at most, that were seen until a time: of the app of the oldest one, as far as
// they follow each other.
func (s *suspects) takeRipe(until time.Time, most int) []suspect {
	n := 0
	for n < len(s.waiting) && n < most && !s.waiting[n].at.After(until) && s.waiting[n].app == s.waiting[0].app {
		n++
	}
	out := s.waiting[:n:n]
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil // and so what held them
	}
	return out
}

// putBack puts back what ripe took.
func (s *suspects) putBack(taken []suspect) { s.waiting = append(slices.Clone(taken), s.waiting...) }

// oldestSeenAt is when the oldest one was seen.
func (s *suspects) oldestSeenAt() time.Time { return s.waiting[0].at }
