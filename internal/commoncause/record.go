package commoncause

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

const (
	// maxHosts limits what one process remembers. At the limit, healthy hosts are dropped. When all fail, more hosts
	// are not needed for a decision.
	maxHosts = 10_000
	// maxListed limits the listed hosts of a report: those that may count, and again those that have failed for long.
	maxListed = 24
)

// ReachRecord is what one process observed. It is not safe for concurrent use.
type ReachRecord struct {
	answered time.Time
	hosts    map[string]*hostState
}

// hostState is what is known of a host. began is when it began to fail, zero while it answers; last is its last
// failure.
type hostState struct {
	network     string
	began, last time.Time
}

// NewReachRecord returns an empty ReachRecord.
func NewReachRecord() *ReachRecord { return &ReachRecord{hosts: map[string]*hostState{}} }

// NoteAddress records the address at which a host was dialled.
func (r *ReachRecord) NoteAddress(host string, a netip.Addr) {
	if n := NetworkOf(a); n != "" {
		if s := r.findOrAddHost(host); s != nil {
			s.network = n
		}
	}
}

// NoteAnswer records that a host gave any HTTP answer.
func (r *ReachRecord) NoteAnswer(host string, now time.Time) {
	if now.After(r.answered) {
		r.answered = now
	}
	if s := r.hosts[host]; s != nil {
		s.began, s.last = time.Time{}, time.Time{}
	}
}

// NoteFailure records that a host gave no HTTP answer.
func (r *ReachRecord) NoteFailure(host string, now time.Time) {
	s := r.findOrAddHost(host)
	if s == nil {
		return
	}
	if s.began.IsZero() {
		s.began = now
	}
	s.last = now
}

// findOrAddHost finds or adds a host, nil when there is no room.
func (r *ReachRecord) findOrAddHost(host string) *hostState {
	if s := r.hosts[host]; s != nil {
		return s
	}
	if len(r.hosts) >= maxHosts {
		r.dropHealthy()
	}
	if len(r.hosts) >= maxHosts {
		return nil
	}
	s := &hostState{network: networkOfName(host)}
	r.hosts[host] = s
	return s
}

// dropHealthy drops healthy hosts; they are added again when they are dialled.
func (r *ReachRecord) dropHealthy() {
	for name, s := range r.hosts {
		if s.began.IsZero() {
			delete(r.hosts, name)
		}
	}
}

// MergeView takes over older failures that other processes know. So a process that has just started does not take old
// failures for new ones, and can pass them on when the others are gone.
func (r *ReachRecord) MergeView(v View) {
	if v.Answered.After(r.answered) {
		r.answered = v.Answered
	}
	for name, s := range r.hosts {
		if s.began.IsZero() {
			continue
		}
		if h, ok := v.Failing[hashName(name)]; ok {
			s.network = pickNetwork(s.network, h.Network)
			if h.Began.Before(s.began) {
				s.began = h.Began
			}
		}
	}
}

// MakeReport reports the failures within the time before now. It lists some of the hosts that may count and some of
// those that do not, from as many networks as possible.
func (r *ReachRecord) MakeReport(now time.Time, within time.Duration) Report {
	out := Report{Answered: r.answered}
	var fresh, old []Host
	for name, s := range r.hosts {
		if s.began.IsZero() || now.Sub(s.last) > within {
			continue
		}
		h := Host{Key: hashName(name), Network: s.network, Began: s.began, Last: s.last}
		if s.last.After(r.answered) {
			out.Hosts++
		}
		if isOwnFault(s.began, r.answered) {
			old = append(old, h)
		} else {
			fresh = append(fresh, h)
		}
	}
	out.Failing = append(pickListed(fresh), pickListed(old)...)
	return out
}

// pickListed returns at most maxListed hosts from as many networks as possible. It prefers those that have failed
// longest, since they determine the age of a common cause.
func pickListed(all []Host) []Host {
	if len(all) <= maxListed {
		return all
	}
	slices.SortFunc(all, func(a, b Host) int { return a.Began.Compare(b.Began) })
	taken := make(map[string]bool, maxListed)
	var out, rest []Host
	for _, h := range all {
		if taken[h.Network] || len(out) == maxListed {
			rest = append(rest, h)
			continue
		}
		taken[h.Network] = true
		out = append(out, h)
	}
	return append(out, rest[:maxListed-len(out)]...)
}

// hashName stands for a host name, or its end, in reports.
func hashName(name string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // it never fails
	return strconv.FormatUint(h.Sum64(), 36)
}
