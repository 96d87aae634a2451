package drain

import (
	"context"
	"log/slog"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// settle turns a finished post into a settlement and draws what follows for the run.
func (r *run) settle(ctx context.Context, f finished) {
	r.running--
	r.noteMove(time.Now())
	if f.late {
		r.settlements = append(r.settlements, mailbox.Settlement{Claim: f.claim, Verdict: mailbox.Release})
		return
	}
	_, delivered := r.health.times()
	m := f.message
	if !m.LastAttempt.IsZero() { // Redis's time, compared with this process's
		m.LastAttempt = m.LastAttempt.Add(-r.skew)
	}
	j := judge(f.result, m, delivered, r.began, r.d.opts.Schedule, random())
	if j.verdict == mailbox.Failed && f.result.Outcome == delivery.Aborted && r.halting(ctx) {
		j = judgement{verdict: mailbox.Release}
	}
	r.settlements = append(r.settlements, mailbox.Settlement{
		Claim: f.claim, Verdict: j.verdict, Delay: j.delay, Step: j.step, Reason: f.result.Reason, Well: j.verdict == mailbox.Failed && j.well,
	})
	r.steer(j, f)
	r.note(f, j)
	r.record(ctx, f, j)
}

func (r *run) halting(ctx context.Context) bool {
	select {
	case <-r.d.stop:
		return true
	default:
		return ctx.Err() != nil
	}
}

// steer lets the answer decide how the run goes on.
func (r *run) steer(j judgement, f finished) {
	if r.health.count(j, f.at, r.d.memory.failures) {
		r.tripped, r.closing = true, true
	}
	if j.gone {
		r.gone, r.closing = &f.result, true
	}
	if j.gate > 0 {
		r.gate, r.closing = max(r.gate, j.gate), true
	}
	if j.suspect && r.suspectAt.IsZero() {
		r.suspectAt = f.at
	}
	if !j.well {
		if f.result.Outcome == delivery.Aborted {
			r.closing, r.force = true, true
			r.ownFault = j.verdict == mailbox.Failed
		}
		return
	}
	r.ownFault = false
	r.openings = 0 // the next exchange clears the gate
	if r.alone {
		r.alone = false
		r.limit = min(Floor, r.d.opts.InFlightPerApp)
		if r.probing {
			r.probing = false
			r.d.opts.Metrics.transition(closed)
		}
		return
	}
	r.limit = min(r.limit+1, r.d.opts.InFlightPerApp) // one more per answer doubles it each round
}

// note keeps what people may have to be told.
func (r *run) note(f finished, j judgement) {
	switch {
	case f.result.Outcome == delivery.Delivered:
		r.report.Failure = nil
		r.report.Succeeded = true
		if f.message.Steps > 0 {
			r.report.Accepted = append(r.report.Accepted, f.message)
		}
	case j.step: // the endpoint works, or did for others
		if j.well {
			r.report.Failure = nil
		}
		res := f.result
		res.Outcome = delivery.Rejected
		r.report.Rejected = append(r.report.Rejected, Rejection{Message: f.message, Result: res})
	case j.fault || f.result.Wait:
		res := f.result
		r.report.Failure = &res
		r.report.Succeeded = false
	}
}

// observe reports the run where it says something new: an endpoint that is well and was well is
// not news.
func (r *run) observe(ctx context.Context) {
	o := r.report
	if !r.closed {
		o.Failure = nil
	}
	if r.outdated {
		o.Succeeded, o.Rejected = false, nil
	}
	news := o.Failure != nil || len(o.Rejected) > 0 || len(o.Accepted) > 0 || o.Succeeded && (r.hadGate || r.tripped || !r.suspectAt.IsZero())
	if !news {
		return
	}
	o.App, o.At = r.app, time.Now()
	call, cancel := detached(ctx)
	defer cancel()
	if err := r.d.opts.Observer.Observe(call, o); err != nil {
		r.d.opts.Log.WarnContext(ctx, "what the endpoint did could not be noted for its people", "app", r.app, "err", err)
	}
}

// record writes the attempt's metrics, its entry in the deliveries and its canonical log line.
func (r *run) record(ctx context.Context, f finished, j judgement) {
	m, res := f.message, f.result
	a := delivery.Attempt{
		At: f.at.Add(-res.Duration).UTC(), ClientID: r.app, Tenant: m.Change.Tenant, ChangeID: m.Change.ID, WebhookID: m.WebhookID,
		ChangeType: m.Change.Type.String(), Sequence: m.Sequence, Number: m.Attempts + 1, Superseded: m.Superseded,
		Outcome: res.Outcome.String(), Reason: res.Reason.String(), Status: res.Status, DurationMS: res.Duration.Milliseconds(),
		Detail: res.Detail, Excerpt: res.Excerpt,
	}
	if j.delay > 0 {
		a.NextAttemptAt = f.at.Add(j.delay).UTC()
	}
	r.d.opts.Observer.Attempted(a)
	held := m.Attempts > 0 || !r.held.IsZero() && !m.FirstDeposited.After(r.held)
	owedSince := m.Change.AcceptedAt
	if m.WebhookID != m.Change.ID { // told again: owed since it was asked for
		owedSince = m.FirstDeposited
	}
	lag := f.at.Add(r.skew).Sub(owedSince) // both by Redis's clock
	r.d.opts.Metrics.attempt(res, max(lag, 0), held)
	level := slog.LevelInfo
	if res.Outcome != delivery.Delivered {
		level = slog.LevelWarn
	}
	if !r.d.opts.Log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("app", string(r.app)), slog.String("tenant", string(m.Change.Tenant)), slog.String("change_id", m.Change.ID),
		slog.Int("attempt", a.Number), slog.String("outcome", a.Outcome), slog.String("reason", a.Reason), slog.Int("status", res.Status),
		slog.Int64("duration_ms", a.DurationMS), slog.Int64("superseded", m.Superseded),
	}
	if !a.NextAttemptAt.IsZero() {
		attrs = append(attrs, slog.Time("next_attempt_at", a.NextAttemptAt))
	}
	if res.Detail != "" {
		attrs = append(attrs, slog.String("err", res.Detail))
	}
	r.d.opts.Log.LogAttrs(ctx, level, "delivery attempted", attrs...)
}
