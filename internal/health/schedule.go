package health

import (
	"hash/fnv"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// QuietHours is a time of day in which an endpoint is not probed: from From up to To, by the clock of
// Location. It may span midnight; equal ends mean none.
type QuietHours struct {
	// From and To are durations since midnight.
	From, To time.Duration
	Location *time.Location
}

// Contains reports whether a time lies in the quiet hours.
func (q QuietHours) Contains(at time.Time) bool {
	if q.From == q.To || q.Location == nil {
		return false
	}
	clock := sinceMidnight(at.In(q.Location))
	if q.From < q.To {
		return clock >= q.From && clock < q.To
	}
	return clock >= q.From || clock < q.To
}

// EndAfter is when the quiet hours end that contain a time; it is that time itself when none do.
func (q QuietHours) EndAfter(at time.Time) time.Time {
	if !q.Contains(at) {
		return at
	}
	local := at.In(q.Location)
	day := local.Day()
	if sinceMidnight(local) >= q.To {
		day++
	}
	end := time.Date(local.Year(), local.Month(), day, 0, int(q.To/time.Minute), 0, 0, q.Location)
	if !end.After(at) { // the clock is put back over the end
		end = at.Add(time.Minute)
	}
	return end
}

func sinceMidnight(t time.Time) time.Duration {
	h, m, s := t.Clock()
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
}

// Schedule says when endpoints are probed. Every endpoint has a fixed place in the interval, so that
// probes are spread evenly over it.
type Schedule struct {
	// Interval is the time between two probes of a healthy endpoint.
	Interval time.Duration
	// BackoffMax is the longest time between two probes of a failing one.
	BackoffMax time.Duration
	// Quiet is when mirroring endpoints are not probed.
	Quiet QuietHours
}

const (
	// firstRetry is the time from a first failed probe to the next: the failure may have been brief.
	firstRetry = time.Minute
	// jitterShare is the part of the interval by which a place varies to either side. backoffShare is
	// the part of a wait after a failure by which that varies: endpoints that failed together are soon
	// probed at different times.
	jitterShare  = 0.05
	backoffShare = 0.2
)

// quietHours is when an endpoint of a kind is not probed.
func (s Schedule) quietHours(k partner.EndpointKind) QuietHours {
	if k == partner.Mirroring {
		return s.Quiet
	}
	return QuietHours{}
}

// IsQuiet reports whether an endpoint is not probed at a time.
func (s Schedule) IsQuiet(k partner.EndpointKind, at time.Time) bool {
	return s.quietHours(k).Contains(at)
}

// NextRegularTime is the first of the endpoint's places that is not before a time and not in its quiet
// hours.
func (s Schedule) NextRegularTime(app partner.ClientID, k partner.EndpointKind, from time.Time) time.Time {
	at := s.regularTime(app, k, from)
	if q := s.quietHours(k); q.Contains(at) {
		at = s.regularTime(app, k, q.EndAfter(at))
	}
	return at
}

func (s Schedule) regularTime(app partner.ClientID, k partner.EndpointKind, from time.Time) time.Time {
	interval := s.Interval.Milliseconds()
	phase := hashPhase(app, k, interval)
	ms := from.Add(time.Millisecond - 1).UnixMilli()
	wait := (phase - ms) % interval
	if wait < 0 {
		wait += interval
	}
	return time.UnixMilli(ms + wait).UTC()
}

// hashPhase hashes an endpoint into [0, interval).
func hashPhase(app partner.ClientID, k partner.EndpointKind, interval int64) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(string(app) + "|" + k.String())) // it never fails
	x := h.Sum64()
	// FNV changes its high bits little between texts that differ at the end; this mixes them
	// (the finalizer of MurmurHash3).
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return int64(x % uint64(interval))
}

// NextTime is when an endpoint is due again, given its state after a probe that ended now. random is in
// [0, 1). A healthy endpoint keeps its place, give or take a twentieth of the interval. A failing one is
// probed after a minute, and then after twice as long each time, up to BackoffMax.
func (s Schedule) NextTime(app partner.ClientID, k partner.EndpointKind, st State, now time.Time, random float64) time.Time {
	jitter := 2*random - 1
	if st.Failures == 0 && st.OwnSince.IsZero() {
		// at least half an interval away, so that jitter does not cause two probes for one place
		at := s.NextRegularTime(app, k, now.Add(s.Interval/2))
		if moved := at.Add(time.Duration(jitter * jitterShare * float64(s.Interval))); !s.IsQuiet(k, moved) {
			at = moved
		}
		return at
	}
	wait := min(firstRetry, s.Interval)
	for range max(st.Failures, 1) - 1 {
		if wait >= s.BackoffMax {
			break
		}
		wait *= 2
	}
	wait = min(wait, max(s.BackoffMax, firstRetry))
	at := now.Add(wait + time.Duration(jitter*backoffShare*float64(wait)))
	if s.IsQuiet(k, at) {
		return s.NextRegularTime(app, k, s.quietHours(k).EndAfter(at))
	}
	return at
}
