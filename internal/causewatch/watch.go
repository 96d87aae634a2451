// Package causewatch watches whether endpoints fail for a cause of our own. It records which hosts answer and which
// fail on the connection, shares this with the other processes every few seconds, and answers callers that are about
// to blame an endpoint.
//
// Every process reads what all of them observed and decides the same from it; the first one writes the decision. So
// any process may handle incidents, even one that makes no calls. A process without the others' reports, because it
// has just started or Redis was away, says that there may be a common cause.
package causewatch

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/commoncause"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/registry"
)

const (
	// Every is the time between two turns.
	Every = 5 * time.Second
	// turnWithin bounds a turn.
	turnWithin = 3 * time.Second
	// staleAfter is how old the last turn may be for its result to be used. From giveUpAfter on it is used again,
	// since turns then fail for a reason of their own.
	staleAfter  = 30 * time.Second
	giveUpAfter = 25 * time.Minute
)

// Store shares reports and the decision; *registry.Store is one.
type Store interface {
	ShareReach(ctx context.Context, process, report string) (registry.Reach, error)
	PutCommonCause(ctx context.Context, was, next string) (bool, error)
}

// Options of a Watch.
type Options struct {
	Store Store
	// Process is the unique name of this process.
	Process string
	// Within is how recently a host must have failed to count. It must be longer than the longest cool-down.
	Within  time.Duration
	Metrics *Metrics
	Log     *slog.Logger
	// Now is the clock; nil for the machine's.
	Now func() time.Time
}

// Watch is one process's part. It is safe for concurrent use; Run runs in one goroutine.
type Watch struct {
	opts  Options
	rules commoncause.Rules

	mu     sync.Mutex
	record *commoncause.ReachRecord
	// ahead is how far the store's clock is ahead of this machine's. All records use the store's time.
	ahead   time.Duration
	episode commoncause.Episode
	// turned is when the last turn ended, by this machine's clock.
	turned time.Time
	heard  bool
}

// New returns a Watch.
func New(opts Options) *Watch {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Watch{opts: opts, rules: commoncause.Rules{Within: opts.Within}, record: commoncause.NewReachRecord(), turned: opts.Now()}
}

// WrapDial returns a dial function that records the address of each host.
func (w *Watch) WrapDial(next func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := next(ctx, network, address)
		if err == nil {
			w.noteConnAddress(address, conn.RemoteAddr())
		} else if op, ok := errors.AsType[*net.OpError](err); ok {
			w.noteConnAddress(address, op.Addr)
		}
		return conn, err
	}
}

func (w *Watch) noteConnAddress(host string, at net.Addr) {
	if tcp, ok := at.(*net.TCPAddr); ok {
		w.NoteAddress(host, tcp.AddrPort().Addr())
	}
}

// NoteAddress records the address of a host, which may be named with its port.
func (w *Watch) NoteAddress(host string, at netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.record.NoteAddress(stripPort(host), at)
}

// NoteAnswer records that a host gave an HTTP answer, whatever its status.
func (w *Watch) NoteAnswer(host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.record.NoteAnswer(stripPort(host), w.storeTime())
}

// NoteFailure records that a host gave no HTTP answer.
func (w *Watch) NoteFailure(host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.record.NoteFailure(stripPort(host), w.storeTime())
}

// storeTime is the store's present time. w.mu is held.
func (w *Watch) storeTime() time.Time { return w.opts.Now().Add(w.ahead) }

// stripPort returns a host without its port.
func stripPort(host string) string {
	i := strings.LastIndexByte(host, ':')
	if i < 0 {
		return host
	}
	if strings.IndexByte(host, ':') == i || host[i-1] == ']' {
		host = host[:i]
	}
	return strings.Trim(host, "[]")
}

// CommonCause is the newest common cause by the last turn, in this machine's time. While the last turn is too old, it
// says that there may be one.
func (w *Watch) CommonCause() incident.CommonCause {
	w.mu.Lock()
	defer w.mu.Unlock()
	if age := w.opts.Now().Sub(w.turned); !w.episode.IsOngoing() && (!w.heard || age > staleAfter) && age < giveUpAfter {
		return incident.CommonCause{Since: w.turned}
	}
	c := incident.CommonCause{Since: w.episode.Since, Until: w.episode.Until}
	for _, at := range []*time.Time{&c.Since, &c.Until} {
		if !at.IsZero() {
			*at = at.Add(-w.ahead)
		}
	}
	return c
}

// Run makes turns until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		if err := w.ShareAndDecide(ctx); err != nil && ctx.Err() == nil { // the loops and the metrics of Redis report it
			w.opts.Log.DebugContext(ctx, "common cause not updated", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ShareAndDecide shares what was observed, and decides.
func (w *Watch) ShareAndDecide(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, turnWithin)
	defer cancel()
	w.mu.Lock()
	report := w.record.MakeReport(w.storeTime(), w.opts.Within)
	w.mu.Unlock()
	began := w.opts.Now()
	reach, err := w.opts.Store.ShareReach(ctx, w.opts.Process, report.Encode())
	if err != nil {
		return err
	}
	view, unread := mergeReports(reach.Reports)
	was, err := commoncause.DecodeEpisode(reach.Cause)
	if err != nil { // of another version: what cannot be read excuses no endpoint
		unread, was = errors.Join(unread, err), commoncause.Episode{}
	}
	next, hosts := w.rules.NextEpisode(was, view, reach.Now)
	if text := next.Encode(); text != reach.Cause && next != was {
		written, err := w.opts.Store.PutCommonCause(ctx, reach.Cause, text)
		if err != nil {
			return err
		}
		if !written { // another process decided: the next turn reads its decision
			next = was
		}
	}
	w.mu.Lock()
	w.ahead = reach.Now.Sub(began.Add(w.opts.Now().Sub(began) / 2))
	w.record.MergeView(view)
	before := w.episode
	w.episode, w.turned, w.heard = next, w.opts.Now(), true
	w.mu.Unlock()
	w.opts.Metrics.setEpisode(next, hosts)
	w.logChange(ctx, before, next, hosts)
	return unread
}

// mergeReports joins the readable reports.
func mergeReports(texts []string) (commoncause.View, error) {
	var errs []error
	reports := make([]commoncause.Report, 0, len(texts))
	for _, text := range texts {
		r, err := commoncause.DecodeReport(text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		reports = append(reports, r)
	}
	return commoncause.MergeReports(reports...), errors.Join(errs...)
}

// logChange logs the beginning and the end of an episode.
func (w *Watch) logChange(ctx context.Context, was, now commoncause.Episode, hosts int) {
	switch {
	case now.IsOngoing() && !was.IsOngoing():
		w.opts.Log.ErrorContext(ctx, "many hosts fail on the connection at once and none answers: the cause may be here, so no endpoint is blamed for now",
			"since", now.Since, "hosts", hosts)
	case was.IsOngoing() && !now.IsOngoing():
		w.opts.Log.WarnContext(ctx, "hosts answer again: the common cause is over", "since", was.Since, "until", now.Until)
	}
}
