package auditlog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/loop"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// LoopName is the name of the loop that writes the audit out.
const LoopName = "audit"

const (
	every  = time.Second
	within = 10 * time.Second
	lease  = 15 * time.Second
)

// Store is where audit entries are stored; *registry.Store is one.
type Store interface {
	loop.Store
	ReadNextAudit(ctx context.Context, p registry.AuditPlace) (registry.NextAuditEntries, error)
}

// Sink accepts lines.
type Sink interface {
	// LastPlace is the place after the last written line, searched from p on; p when no line follows it.
	LastPlace(p Place) (Place, error)
	// Write appends whole lines, each with its line break, and returns when they are durable.
	Write(lines [][]byte) error
}

// Metrics count written lines and gaps.
type Metrics struct {
	lines prometheus.Counter
	gaps  *prometheus.CounterVec
}

// The streams of the audit log, as named in metrics.
const (
	ofStaff    = "staff"
	ofPartners = "partners"
)

// NewMetrics registers the metrics, every series at once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		lines: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lamplighter_audit_lines_total", Help: "Lines of the audit that this process wrote out.",
		}),
		gaps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lamplighter_audit_gaps_total", Help: "Times that entries of the audit were gone before this process could write them out.",
		}, []string{"stream"}),
	}
	reg.MustRegister(m.lines, m.gaps)
	for _, s := range []string{ofStaff, ofPartners} {
		m.gaps.WithLabelValues(s)
	}
	return m
}

// Options of a Writer.
type Options struct {
	Store   Store
	Sink    Sink
	Holder  string
	Loops   *loop.Metrics
	Metrics *Metrics
	Log     *slog.Logger
}

// Writer writes audit entries out while its process has the lease. The order of calls is New, then Run once.
type Writer struct{ opts Options }

// New returns a Writer.
func New(o Options) *Writer { return &Writer{opts: o} }

// Run writes until ctx ends.
func (w *Writer) Run(ctx context.Context) {
	loop.New(loop.Options{
		Name: LoopName, Step: w.Step, Every: every, Within: within, Lease: lease,
		Store: w.opts.Store, Holder: w.opts.Holder, Metrics: w.opts.Loops, Log: w.opts.Log,
	}).Run(ctx)
}

// Step writes the next entries. Entries that were written before a crash but not recorded are found in the sink.
func (w *Writer) Step(ctx context.Context, cursor string) (loop.Report, error) {
	from := ParsePlace(cursor)
	failed := func(err error) (loop.Report, error) { return loop.Report{Next: from.String()}, err }
	p, err := w.opts.Sink.LastPlace(from)
	if err != nil {
		return failed(fmt.Errorf("look for the last line of the audit: %w", err))
	}
	next, err := w.opts.Store.ReadNextAudit(ctx, p.AuditPlace)
	if err != nil {
		return failed(err)
	}
	w.reportMissing(ctx, p, next)
	lines := make([][]byte, 0, len(next.Entries))
	for i, e := range next.Entries {
		text, err := encodeLine(p.N+1, p.Digest, e, next.Numbers[i])
		if err != nil {
			return failed(err)
		}
		p = p.advancePast(Line{N: p.N + 1, ID: e.ID, Number: next.Numbers[i]}, text)
		lines = append(lines, append(text, '\n'))
	}
	if len(lines) > 0 {
		if err := w.opts.Sink.Write(lines); err != nil {
			return failed(fmt.Errorf("write the audit out: %w", err))
		}
		w.opts.Metrics.lines.Add(float64(len(lines)))
	}
	return loop.Report{Next: p.String(), End: !next.More}, nil
}

// reportMissing reports entries that were removed from Redis before they were read.
func (w *Writer) reportMissing(ctx context.Context, p Place, next registry.NextAuditEntries) {
	for _, e := range next.Entries {
		if registry.IsPartnerAuditID(e.ID) {
			continue
		}
		if p.Staff != "" && e.ID == next.OldestStaff { // the last entry read is gone, and so may be the ones after it
			w.opts.Metrics.gaps.WithLabelValues(ofStaff).Inc()
			w.opts.Log.ErrorContext(ctx, "entries of the audit may be gone that were not written out", "stream", ofStaff, "after", p.Staff, "oldest", e.ID)
		}
		break
	}
	count := p.Count
	for i, n := range next.Numbers {
		if n == 0 {
			continue
		}
		if count > 0 && n > count+1 {
			w.opts.Metrics.gaps.WithLabelValues(ofPartners).Inc()
			w.opts.Log.ErrorContext(ctx, "entries of the audit are gone that were not written out", "stream", ofPartners, "before", next.Entries[i].ID, "entries", n-count-1)
		}
		count = n
	}
}
