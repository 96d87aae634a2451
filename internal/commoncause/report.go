package commoncause

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	reportFormat = 1
	// maxReport limits what is read of another process: twice the longest report.
	maxReport = 10 << 10
	// maxText limits a key and a network in it.
	maxText = 100
)

// ErrUnreadable reports a report or an episode that this version cannot read.
var ErrUnreadable = errors.New("unreadable report of a common cause")

// Host is a host that fails.
type Host struct {
	// Key is the hash of its name.
	Key, Network string
	// Began is when it began to fail, Last is its last failure.
	Began, Last time.Time
}

// Report is what one process shares with the others.
type Report struct {
	// Answered is when any host last answered, zero if none did.
	Answered time.Time
	// Hosts is how many hosts failed since; Failing lists some of them, and some that had failed before.
	Hosts   int
	Failing []Host
}

type storedReport struct {
	Format   int          `json:"v"`
	Answered int64        `json:"answered,omitempty"`
	Hosts    int          `json:"hosts,omitempty"`
	Failing  []storedHost `json:"failing,omitempty"`
}

type storedHost struct {
	Key     string `json:"k"`
	Network string `json:"n"`
	Began   int64  `json:"b"`
	Last    int64  `json:"l"`
}

// Encode writes the report for the store.
func (r *Report) Encode() string {
	s := storedReport{Format: reportFormat, Answered: toMillis(r.Answered), Hosts: r.Hosts, Failing: make([]storedHost, len(r.Failing))}
	for i, h := range r.Failing {
		s.Failing[i] = storedHost{h.Key, h.Network, toMillis(h.Began), toMillis(h.Last)}
	}
	return encodeJSON(s)
}

// DecodeReport reads the format of Encode, from any process.
func DecodeReport(text string) (Report, error) {
	var s storedReport
	if err := decodeJSON(text, &s); err != nil {
		return Report{}, err
	}
	if s.Format != reportFormat || s.Hosts < 0 || len(s.Failing) > 2*maxListed {
		return Report{}, fmt.Errorf("%w: format %d with %d of %d hosts", ErrUnreadable, s.Format, len(s.Failing), s.Hosts)
	}
	r := Report{Answered: fromMillis(s.Answered), Hosts: min(s.Hosts, maxHosts)}
	for _, h := range s.Failing {
		if h.Key == "" || h.Network == "" || len(h.Key)+len(h.Network) > maxText || h.Began <= 0 || h.Last < h.Began {
			return Report{}, fmt.Errorf("%w: a host that is none", ErrUnreadable)
		}
		r.Failing = append(r.Failing, Host{h.Key, h.Network, fromMillis(h.Began), fromMillis(h.Last)})
	}
	return r, nil
}

func encodeJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // structs of strings and numbers always marshal
		panic("commoncause: marshal: " + err.Error())
	}
	return string(b)
}

func decodeJSON(text string, v any) error {
	if len(text) > maxReport {
		return fmt.Errorf("%w: %d bytes", ErrUnreadable, len(text))
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return nil
}

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// View is what all processes observed together.
type View struct {
	// Answered is when any host last answered any process.
	Answered time.Time
	// Failing are the hosts that the reports list, by key.
	Failing map[string]Host
	// Hosts is the highest count of failing hosts since then in one report.
	Hosts int
}

// MergeReports joins reports.
func MergeReports(reports ...Report) View {
	v := View{Failing: map[string]Host{}}
	for i := range reports {
		if r := &reports[i]; r.Answered.After(v.Answered) {
			v.Answered = r.Answered
		}
	}
	for i := range reports {
		r := &reports[i]
		if r.Answered.Equal(v.Answered) { // otherwise the report does not include that answer yet
			v.Hosts = max(v.Hosts, r.Hosts)
		}
		for _, h := range r.Failing {
			known, ok := v.Failing[h.Key]
			if ok {
				h.Network = pickNetwork(known.Network, h.Network)
				if known.Began.Before(h.Began) {
					h.Began = known.Began
				}
				if known.Last.After(h.Last) {
					h.Last = known.Last
				}
			}
			v.Failing[h.Key] = h
		}
	}
	return v
}
