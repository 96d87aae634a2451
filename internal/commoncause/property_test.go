package commoncause_test

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lamplighter/lamplighter/internal/commoncause"
)

// whole is what nobody forgets: each host's failures and all answers.
type whole struct {
	answered time.Time
	last     map[string]time.Time
}

// enough reports whether five hosts of three networks failed lately and since the last answer, which was 30 s ago.
func (h *whole) enough(networks map[string]string, now time.Time) bool {
	hosts, of := 0, map[string]bool{}
	for name, last := range h.last {
		if last.After(h.answered) && now.Sub(last) <= rules.Within {
			hosts++
			of[networks[name]] = true
		}
	}
	return hosts >= 5 && len(of) >= 3 && (h.answered.IsZero() || now.Sub(h.answered) >= 30*time.Second)
}

// Whatever hosts do, whoever calls them and whichever process begins anew: an episode never lasts unless what it says is true of
// all that happened, and ends as soon as anybody is answered.
func TestAnEpisodeIsTrue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		workers := []*commoncause.ReachRecord{commoncause.NewReachRecord(), commoncause.NewReachRecord(), commoncause.NewReachRecord()}
		reports := make([]commoncause.Report, len(workers))
		var e commoncause.Episode
		now, truth, networks := t0, &whole{last: map[string]time.Time{}}, map[string]string{}
		mood := rapid.IntRange(0, 2).Draw(t, "mood")
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 20_000).Draw(t, "ms")) * time.Millisecond)
			at := rapid.IntRange(0, len(workers)-1).Draw(t, "worker")
			n := rapid.IntRange(0, 11).Draw(t, "host")
			host, r := hostOf(n%4, n), workers[at]
			address := netip.AddrFrom4([4]byte{203, byte(n % 4), 0, byte(n)})
			switch what := rapid.IntRange(0, 19).Draw(t, "what"); {
			case what == 0 && mood > 0, what < 4 && mood > 1:
				r.NoteAnswer(host, now)
				truth.answered = now
				delete(truth.last, host)
			case what < 17:
				r.NoteAddress(host, address)
				r.NoteFailure(host, now)
				truth.last[host], networks[host] = now, commoncause.NetworkOf(address)
			case what == 17:
				workers[at] = commoncause.NewReachRecord()
			}
			for i, w := range workers {
				reports[i] = w.MakeReport(now, rules.Within)
			}
			was := e
			v := commoncause.MergeReports(reports...)
			var hosts int
			if e, hosts = rules.NextEpisode(e, v, now); e.IsOngoing() && (!truth.enough(networks, now) || hosts < 5) {
				t.Fatalf("at %v it lasts with %d hosts: %+v", now.Sub(t0), hosts, truth)
			}
			if e.Since.After(now) || !e.Until.IsZero() && e.Until.Before(e.Since) {
				t.Fatalf("episode %+v at %v", e, now)
			}
			if was.IsOngoing() && e.IsOngoing() && !was.Since.Equal(e.Since) {
				t.Fatalf("one episode began at %v, then at %v", was.Since, e.Since)
			}
			if again, _ := rules.NextEpisode(e, v, now); again != e {
				t.Fatalf("asked again: %+v, then %+v", e, again)
			}
			for _, w := range workers {
				w.MergeView(v)
			}
		}
	})
}
