package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// fault is a kind of what was done to the running whole.
type fault string

const (
	workerKilled fault = "worker killed"
	workerFrozen fault = "worker frozen"
	apiKilled    fault = "api killed"
	apiFrozen    fault = "api frozen"
	redisKilled  fault = "redis killed"
	redisFrozen  fault = "redis frozen"
	redisCut     fault = "connections cut"
	redisSlowed  fault = "connections slowed"
	failedOver   fault = "failover"
	slotMoved    fault = "slot moved"
	// endedItself is no fault that was brought about: a supervisor starts such a process again.
	endedItself fault = "process ended by itself"
)

// tally counts faults, and how much was in flight at each that can make a notification come twice.
type tally struct {
	mu     sync.Mutex
	counts map[fault]int
	flight int
}

func (y *tally) add(f fault) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.counts[f]++
}

func (y *tally) of(f fault) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.counts[f]
}

func (y *tally) inFlight() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.flight
}

func (y *tally) named() map[string]int {
	y.mu.Lock()
	defer y.mu.Unlock()
	out := map[string]int{}
	for f, n := range y.counts {
		out[string(f)] = n
	}
	return out
}

func (y *tally) String() string {
	named := y.named()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(named)) {
		out = append(out, fmt.Sprintf("%s %d", name, named[name]))
	}
	return strings.Join(out, ", ")
}

// inFlight adds what the steady apps have in flight to the tally. Right after a kill that is what the
// killed worker had claimed, and more: its claims stay until their stamps pass. Where Redis does not
// answer, it is the most that two workers may have in flight.
func (s *soak) inFlight(ctx context.Context) {
	const most = 2 * 32
	n := 0
	for _, r := range s.rs[:soakSteady] {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		key := keys.New("").App(partner.ClientID(r.id), keys.AppFlight)
		card, err := s.rdb.ZCard(ctx, key).Result()
		cancel()
		if err != nil {
			card = most
		}
		n += int(card)
	}
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	s.tally.flight += n
}

// figures are what one variant's run came to.
type figures struct {
	Variant       string         `json:"variant"`
	Seconds       float64        `json:"seconds"`
	Changes       int64          `json:"changes_accepted"`
	Notifications int            `json:"notifications_taken"`
	Faults        map[string]int `json:"faults"`
	Lost          int            `json:"lost"`
	OutOfOrder    int            `json:"out_of_order"`
	Duplicates    int            `json:"duplicates"`
	// SteadyDuplicates are those of the apps that never misbehave; they are compared with what was in
	// flight for these apps at faults.
	SteadyDuplicates int `json:"duplicates_of_steady_apps"`
	InFlightAtFaults int `json:"in_flight_at_faults"`
	Unverified       int `json:"unverified"`
}

func table(all []figures) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "redis\tseconds\tchanges\ttaken\tlost\tout of order\ttwice\ttwice, steady apps\tin flight at faults\tfaults")
	for _, f := range all {
		var faults []string
		for _, name := range slices.Sorted(maps.Keys(f.Faults)) {
			faults = append(faults, fmt.Sprintf("%d x %s", f.Faults[name], name))
		}
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", f.Variant, f.Seconds, f.Changes, f.Notifications, f.Lost, f.OutOfOrder,
			f.Duplicates, f.SteadyDuplicates, f.InFlightAtFaults, strings.Join(faults, ", "))
	}
	_ = w.Flush()
	return b.String()
}

func writeFigures(path string, all []figures) error {
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}
