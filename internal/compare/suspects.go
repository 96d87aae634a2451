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

// suspects wait for their second check, the oldest first. The zero value is ready for use.
type suspects struct{ waiting []suspect }

func (s *suspects) add(v suspect) { s.waiting = append(s.waiting, v) }

func (s *suspects) len() int { return len(s.waiting) }

// takeRipe removes and returns suspects that were seen no later than until, at most `most`. They all belong to the app of the
// oldest one, and follow each other in the list.
func (s *suspects) takeRipe(until time.Time, most int) []suspect {
	n := 0
	for n < len(s.waiting) && n < most && !s.waiting[n].at.After(until) && s.waiting[n].app == s.waiting[0].app {
		n++
	}
	out := s.waiting[:n:n]
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil // releases the array
	}
	return out
}

// putBack puts suspects back that takeRipe took.
func (s *suspects) putBack(taken []suspect) { s.waiting = append(slices.Clone(taken), s.waiting...) }

// oldestSeenAt returns when the oldest suspect was seen.
func (s *suspects) oldestSeenAt() time.Time { return s.waiting[0].at }
