package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// What may come twice is bounded fault by fault: a notification that is told again must have been in
// flight at a fault that came between the two, and each post in flight at a fault explains one.

// post is a notification of a tenant to an app; an app has one of a tenant on its way at most.
type post struct{ app, tenant string }

// strike is a fault that happened, and what was in flight then.
type strike struct {
	kind fault
	// began is before the fault, ended after what was in flight was written down.
	began, ended time.Time
	inFlight     map[post]bool
	// forgets: Redis itself was killed or replaced, and may forget what it acknowledged. What the app
	// had taken by then and Redis did not know of afterwards counts as in flight too.
	forgets bool
}

// repeat is a notification that a receiver took twice.
type repeat struct {
	tenant       string
	first, again time.Time
}

// struck writes down that a fault happened, and what the steady apps had in flight at it. Claims of a
// killed worker stay in flight until their stamps pass, so that Redis may be asked after the kill,
// once it answers.
func (s *soak) struck(ctx context.Context, f fault, began time.Time) error {
	k := strike{kind: f, began: began, inFlight: map[post]bool{}, forgets: s.variant != "always" && (f == redisKilled || f == failedOver)}
	err := until(ctx, time.Minute, "redis tells what is in flight", func() bool {
		for _, r := range s.rs[:soakSteady] {
			if s.inFlight(ctx, r, k) != nil {
				return false
			}
		}
		return true
	})
	k.ended = time.Now()
	s.tally.strike(k)
	return err
}

// inFlight adds what an app has in flight.
func (s *soak) inFlight(ctx context.Context, r *receiver, k strike) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	key := func(a keys.AppKey) string { return keys.New("").App(partner.ClientID(r.id), a) }
	flying, err := s.rdb.ZRange(ctx, key(keys.AppFlight), 0, -1).Result()
	if err != nil {
		return err
	}
	for _, t := range flying {
		k.inFlight[post{r.id, t}] = true
	}
	if !k.forgets {
		return nil
	}
	waiting, err := s.rdb.HGetAll(ctx, key(keys.AppWaiting)).Result()
	if err != nil {
		return err
	}
	for field, entry := range waiting {
		t, slot, _ := strings.Cut(field, "|")
		seq, _, _ := strings.Cut(entry, ";")
		if r.took(t, map[string]int{"status": 0, "move": 1, "restore": 2}[slot], seq) {
			k.inFlight[post{r.id, t}] = true
		}
	}
	return nil
}

// took reports whether the receiver took this last of a tenant and slot.
func (r *receiver) took(tenant string, slot int, seq string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.tenants[tenant]
	return s != nil && s.sequences[slot] != 0 && strconv.FormatInt(s.sequences[slot], 10) == seq
}

// handling is how long a receiver may take from when a post reaches its machine until it counts as taken.
const handling = 2 * time.Second

// explains reports whether a strike explains that an app took a notification again.
func (k strike) explains(app string, p repeat) bool {
	if p.first.After(k.ended.Add(handling)) || p.again.Before(k.began) {
		return false
	}
	return k.inFlight[post{app, p.tenant}] || k.forgets && p.again.Before(k.ended)
}

// attribute finds a strike for each repeat, the latest first, and counts those of each strike and
// those of none. A strike explains one repeat of a post.
func attribute(strikes []strike, repeats map[string][]repeat) (of []int, unexplained map[string][]repeat) {
	of, unexplained = make([]int, len(strikes)), map[string][]repeat{}
	used := make([]map[post]bool, len(strikes))
	for app, rs := range repeats {
		for _, p := range rs {
			explained := false
			for i := len(strikes) - 1; i >= 0 && !explained; i-- {
				it := post{app, p.tenant}
				if used[i][it] || !strikes[i].explains(app, p) {
					continue
				}
				if used[i] == nil {
					used[i] = map[post]bool{}
				}
				used[i][it], explained = true, true
				of[i]++
			}
			if !explained {
				unexplained[app] = append(unexplained[app], p)
			}
		}
	}
	return of, unexplained
}

// bound compares what the steady apps took twice with what was in flight at each fault.
func (s *soak) bound(out *figures) {
	repeats := map[string][]repeat{}
	for _, r := range s.rs[:soakSteady] {
		r.mu.Lock()
		repeats[r.id] = append([]repeat(nil), r.repeats...)
		r.mu.Unlock()
	}
	s.tally.mu.Lock()
	strikes := append([]strike(nil), s.tally.strikes...)
	s.tally.mu.Unlock()
	of, unexplained := attribute(strikes, repeats)
	unexplained = s.withoutTimeouts(unexplained)
	for _, rs := range unexplained {
		out.Unexplained += len(rs)
	}
	for i, k := range strikes {
		out.InFlightAtFaults += len(k.inFlight)
		if of[i] > out.MostTwice {
			out.MostTwice, out.MostTwiceOf = of[i], len(k.inFlight)
		}
		if of[i] > 0 {
			out.FaultsThatRepeat++
		}
	}
	for app, rs := range unexplained {
		s.t.Logf("%s: %s took %d things twice that were in flight at no fault, such as %+v", s.variant, app, len(rs), rs[0])
	}
}

// withoutTimeouts leaves out what a worker posted again because the answer to the first post came too late, as it does
// on a machine that is too busy to answer in time: the worker's log says so of each.
func (s *soak) withoutTimeouts(unexplained map[string][]repeat) map[string][]repeat {
	if len(unexplained) == 0 {
		return nil
	}
	late := map[post][]time.Time{}
	logs, _ := filepath.Glob(filepath.Join(s.dir, "serve-*.log"))
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			var l struct {
				Time                     time.Time
				Msg, App, Tenant, Reason string
			}
			if json.Unmarshal(line, &l) == nil && l.Msg == "delivery attempted" && l.Reason == "timeout" {
				late[post{l.App, l.Tenant}] = append(late[post{l.App, l.Tenant}], l.Time)
			}
		}
	}
	out := map[string][]repeat{}
	for app, rs := range unexplained {
		for _, p := range rs {
			it := post{app, p.tenant}
			i := slices.IndexFunc(late[it], func(at time.Time) bool { return at.After(p.first.Add(-handling)) && at.Before(p.again) })
			if i < 0 {
				out[app] = append(out[app], p)
				continue
			}
			late[it] = slices.Delete(late[it], i, i+1) // it explains one
			s.t.Logf("%s took a notification of %s again, whose first answer came too late", app, p.tenant)
		}
	}
	return out
}
