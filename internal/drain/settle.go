package drain

import (
	"context"
	"log/slog"
	"time"

	"github.com/lamplighter/lamplighter/internal/circuit"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/mailbox"
)

// settleAttempt turns a finished attempt into a settlement and updates the run's state.
func (r *run) settleAttempt(ctx context.Context, f finishedAttempt) {
	r.running--
	r.answered = time.Now()
	r.noteProgress(r.answered)
	if f.late {
		r.settlements = append(r.settlements, mailbox.Settlement{Claim: f.claim, Result: mailbox.Release})
		return
	}
	m, lastAttempt := f.message, f.message.LastAttempt
	if !lastAttempt.IsZero() { // Redis's time, compared with this process's
		lastAttempt = lastAttempt.Add(-r.skew)
	}
	a := circuit.AttemptResult{
		Result: f.result, Tenant: m.Change.Tenant, Attempts: m.Attempts, Steps: m.Steps, LastAttempt: lastAttempt, At: f.at, Full: r.running+1 >= r.attemptLimit(), Halting: r.isHalting(ctx),
	}
	r.memory.mu.Lock() // no closure: this runs for each attempt
	d := r.decide.JudgeAttempt(a, randomFraction())
	r.memory.mu.Unlock()
	r.settlements = append(r.settlements, makeSettlement(f, d))
	if d.Proved {
		r.d.opts.Metrics.countTransition(closed)
	}
	r.updateReport(f, d)
	r.recordAttempt(ctx, f, d)
}

func makeSettlement(f finishedAttempt, d circuit.Decision) mailbox.Settlement {
	s := mailbox.Settlement{Claim: f.claim, Result: mailbox.Failed, Delay: d.Delay, Step: d.Step, Reason: f.result.Reason}
	switch {
	case d.Delivered:
		s.Result = mailbox.OK
	case d.Released:
		s.Result = mailbox.Release
	default:
		s.Well = d.Well
	}
	return s
}

func (r *run) isHalting(ctx context.Context) bool {
	select {
	case <-r.d.stop:
		return true
	default:
		return ctx.Err() != nil
	}
}

// updateReport updates the observation that the run will report.
func (r *run) updateReport(f finishedAttempt, d circuit.Decision) {
	res := f.result
	switch {
	case d.Delivered:
		r.report.Failure = nil
		r.report.Succeeded = true
		r.firm = len(r.report.Rejected)
		if f.message.Attempts > 0 {
			r.report.Accepted = append(r.report.Accepted, f.message)
		}
	case d.Blame == circuit.TenantFault:
		if d.Well {
			r.report.Failure = nil
		}
		own := res
		own.Outcome = delivery.Rejected
		r.report.Rejected = append(r.report.Rejected, Rejection{Message: f.message, Result: own, decision: d})
	case d.Blame == circuit.EndpointFault:
		r.report.Failure = &res
		r.report.Succeeded = false
	}
}

// reportRun reports the run if there is news. That an endpoint is still healthy is no news.
func (r *run) reportRun(ctx context.Context) {
	o := r.report
	if !r.openedCircuit {
		o.Failure = nil
	}
	if r.openedCircuit { // rejections before the evidence was sufficient are the endpoint's fault, not the tenants'
		kept := r.firm
		for _, one := range o.Rejected[r.firm:] {
			if r.closing.KeepsRejection(&one.decision) {
				o.Rejected[kept] = one
				kept++
			}
		}
		o.Rejected = o.Rejected[:kept]
	}
	if r.decide.IsOutdated() {
		o.Succeeded, o.Rejected = false, nil
	}
	news := o.Failure != nil || len(o.Rejected) > 0 || len(o.Accepted) > 0 || o.Succeeded && (r.hadProbes || r.decide.WasSuspected())
	if !news {
		return
	}
	o.App, o.At = r.app, time.Now()
	call, cancel := detachContext(ctx)
	defer cancel()
	if err := r.d.opts.Observer.Observe(call, o); err != nil {
		r.d.opts.Log.WarnContext(ctx, "endpoint's result not recorded for incidents and mails", "app", r.app, "err", err)
	}
}

// recordAttempt updates the metrics, adds the attempt to the deliveries and logs the canonical line.
func (r *run) recordAttempt(ctx context.Context, f finishedAttempt, d circuit.Decision) {
	m, res := f.message, f.result
	a := delivery.Attempt{
		At: f.at.Add(-res.Duration).UTC(), ClientID: r.app, Tenant: m.Change.Tenant, ChangeID: m.Change.ID, WebhookID: m.WebhookID,
		ChangeType: m.Change.Type.String(), Sequence: m.Sequence, Number: m.Attempts + 1, Superseded: m.Superseded,
		Outcome: res.Outcome.String(), Reason: res.Reason.String(), Status: res.Status, DurationMS: res.Duration.Milliseconds(),
		Detail: res.Detail, Excerpt: res.Excerpt,
	}
	if d.Delay > 0 && d.Blame != circuit.EndpointFault {
		a.NextAttemptAt = f.at.Add(d.Delay).UTC()
	}
	r.d.opts.Observer.RecordAttempt(a)
	held := m.Attempts > 0 || !r.held.IsZero() && !m.FirstDeposited.After(r.held)
	owedSince := m.Change.AcceptedAt
	if m.WebhookID != m.Change.ID { // a resync: pending since it was asked for
		owedSince = m.FirstDeposited
	}
	lag := f.at.Add(r.skew).Sub(owedSince) // both by Redis's clock
	r.d.opts.Metrics.observeAttempt(res, max(lag, 0), held)
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
