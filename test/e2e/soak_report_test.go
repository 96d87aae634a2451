package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
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

// tally counts faults, and holds those that can make a notification come twice.
type tally struct {
	mu      sync.Mutex
	counts  map[fault]int
	strikes []strike
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

func (y *tally) strike(k strike) {
	y.add(k.kind)
	y.mu.Lock()
	defer y.mu.Unlock()
	y.strikes = append(y.strikes, k)
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
	// SteadyDuplicates are those of the apps that never misbehave, Unexplained those among them of
	// what was in flight for these apps at no fault in between.
	SteadyDuplicates int `json:"duplicates_of_steady_apps"`
	Unexplained      int `json:"duplicates_not_in_flight_at_a_fault"`
	// InFlightAtFaults sums up what was in flight at faults. MostTwice is the most that came twice for
	// one fault, MostTwiceOf how many were in flight at it; FaultsThatRepeat counts those that repeated anything.
	InFlightAtFaults int `json:"in_flight_at_faults"`
	MostTwice        int `json:"most_duplicates_of_a_fault"`
	MostTwiceOf      int `json:"in_flight_at_that_fault"`
	FaultsThatRepeat int `json:"faults_with_duplicates"`
	Unverified       int `json:"unverified"`
}

func table(all []figures) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "redis\tseconds\tchanges\ttaken\tlost\tout of order\ttwice\ttwice, steady apps\tof that not in flight at a fault\tmost for one fault\tin flight at faults\tfaults")
	for _, f := range all {
		var faults []string
		for _, name := range slices.Sorted(maps.Keys(f.Faults)) {
			faults = append(faults, fmt.Sprintf("%d x %s", f.Faults[name], name))
		}
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d of %d\t%d\t%s\n", f.Variant, f.Seconds, f.Changes, f.Notifications, f.Lost, f.OutOfOrder,
			f.Duplicates, f.SteadyDuplicates, f.Unexplained, f.MostTwice, f.MostTwiceOf, f.InFlightAtFaults, strings.Join(faults, ", "))
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
