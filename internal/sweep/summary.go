package sweep

import (
	"encoding/json"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// condition of an app, the first that matches: off, failing, behind, in_step.
type condition string

const (
	conditionOff     condition = "off"
	conditionFailing condition = "failing"
	conditionBehind  condition = "behind"
	conditionInStep  condition = "in_step"
)

func listConditions() []condition {
	return []condition{conditionOff, conditionFailing, conditionBehind, conditionInStep}
}

func appCondition(v mailbox.View, t EndpointIncidents, on bool) condition {
	// an open circuit whose cool-down is over proves nothing while nothing waits
	gated := v.CooldownUntil.After(v.Now) || !v.CooldownUntil.IsZero() && v.Waiting > 0
	switch {
	case !on || v.Off:
		return conditionOff
	case gated || t.Open[partner.StateChange]:
		return conditionFailing
	case v.Waiting > 0:
		return conditionBehind
	default:
		return conditionInStep
	}
}

// maxExceptions limits the series that name an app.
const maxExceptions = 500

// summary is the cluster's state as one process counted it. The holder of the lease stores its JSON, format 1, for the other
// processes.
type summary struct {
	Format   int                   `json:"v"`
	Apps     map[condition]int     `json:"apps"`
	Waiting  map[condition]int64   `json:"waiting"`
	Oldest   map[condition]float64 `json:"oldest"`
	Diverged map[condition]int64   `json:"diverged"`
	Breakers map[string]int        `json:"breakers"`
	Open     map[string]int        `json:"open"`
	Failing  []exception           `json:"failing,omitempty"`
	Behind   []exception           `json:"behind,omitempty"`
	// Tenants is the number of tenants with pending changes, for each app in Behind.
	Tenants []exception `json:"tenants,omitempty"`
	// Overflow counts exceptions beyond maxExceptions.
	Overflow   int     `json:"overflow,omitempty"`
	Outbox     int     `json:"outbox"`
	OldestMail float64 `json:"oldest_mail"`
	// OldestFanout is how long the oldest fan-out has been pending, in seconds; its pairs wait in no mailbox yet.
	OldestFanout float64 `json:"oldest_owed,omitempty"`
	// FanoutPairs counts those pairs, PendingFanouts their tenants, and Stuck the tenants whose fan-out has been pending for
	// longer than stuckAfter.
	FanoutPairs    int64 `json:"owed_pairs,omitempty"`
	PendingFanouts int64 `json:"owed,omitempty"`
	Stuck          int64 `json:"stuck,omitempty"`
}

type exception struct {
	App      partner.ClientID `json:"app"`
	Endpoint string           `json:"endpoint,omitempty"`
	Value    float64          `json:"value"`
}

const summaryFormat = 1

func newSummary() *summary {
	return &summary{
		Format: summaryFormat, Apps: map[condition]int{}, Waiting: map[condition]int64{}, Oldest: map[condition]float64{},
		Diverged: map[condition]int64{}, Breakers: map[string]int{}, Open: map[string]int{},
	}
}

func (s *summary) addApp(id partner.ClientID, v mailbox.View, t EndpointIncidents, on bool) {
	c := appCondition(v, t, on)
	s.Apps[c]++
	s.Waiting[c] += v.Waiting
	s.Diverged[c] += v.Diverged
	s.Oldest[c] = max(s.Oldest[c], v.Oldest.Seconds())
	if c != conditionOff { // an endpoint that is off is not called
		s.Breakers[v.CircuitState()]++
	}
	for _, k := range partner.AllEndpointKinds() {
		if t.Open[k] {
			s.Open[k.String()]++
		}
		if t.Failing[k] || t.Open[k] || k == partner.StateChange && c == conditionFailing {
			s.addException(&s.Failing, exception{App: id, Endpoint: k.String(), Value: 1})
		}
	}
	if v.Waiting > 0 && (c == conditionFailing || c == conditionBehind) {
		if s.addException(&s.Behind, exception{App: id, Value: float64(v.Waiting)}) {
			s.Tenants = append(s.Tenants, exception{App: id, Value: float64(v.Diverged)})
		}
	}
}

// addException adds e to a list, unless the list is full, and reports whether it did.
func (s *summary) addException(list *[]exception, e exception) bool {
	if len(*list) >= maxExceptions {
		s.Overflow++
		return false
	}
	*list = append(*list, e)
	return true
}

func (s *summary) encode() []byte {
	b, err := json.Marshal(s)
	if err != nil { // maps of numbers always marshal
		panic("sweep: marshal summary: " + err.Error())
	}
	return b
}

// decodeSummary parses what encode wrote; nil, or another format, gives an empty summary.
func decodeSummary(b []byte) *summary {
	s := newSummary()
	if json.Unmarshal(b, s) != nil || s.Format != summaryFormat {
		return newSummary()
	}
	return s
}
