package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// ErrorReports stores the reports of engines about endpoints. They are durable on return.
type ErrorReports interface {
	// Report says, at each report's index, whether it was stored before under the key.
	Report(ctx context.Context, app partner.ClientID, kind partner.EndpointKind, key string, reports []registry.Report) (replayed []bool, err error)
}

const (
	maxExcerpt = 2000
	// keptExcerpt is how much of an excerpt is stored, in bytes.
	keptExcerpt = 500
	// reportScope separates the idempotency keys of this operation from those of others.
	reportScope = "error-reports/"
)

// postErrorReports accepts one report, or lines of reports. It accepts only reports about the endpoints that engines call,
// and only if the endpoint has a URL in this environment.
func (a *API) postErrorReports(c *call) error {
	kind, err := c.pathEndpointKind()
	if err != nil {
		return err
	}
	rec, err := a.readPathApp(c)
	switch {
	case err != nil:
		return err
	case kind == partner.StateChange:
		return invalidProblem(FieldError{Pointer: "/endpoint", Detail: "takes no reports: Lamplighter calls it itself; only erp_sync, quote_connector and mirroring do"})
	case rec.App.Endpoints[kind].EffectiveURL(a.Environment) == "":
		return invalidProblem(FieldError{Pointer: "/endpoint", Detail: "has no URL in this environment, so no engine can have called it"})
	}
	key, err := readIdempotencyKey(c.r.Header, reportScope+string(rec.App.ClientID)+"/"+kind.String()+"/"+callerScope(c)+"\n")
	if err != nil {
		return err
	}
	take := func(ctx context.Context, lines []line) error {
		return a.takeReports(ctx, rec.App.ClientID, kind, key, lines)
	}
	if mediaType(c.r) == typeLines {
		return a.streamLines(c, func(int) {}, take)
	}
	doc, err := c.readDocument()
	if err != nil {
		return err
	}
	one := line{number: onlyLine, doc: doc, answer: &lineAnswer{}}
	if err := take(c.ctx(), []line{one}); err != nil {
		return err
	}
	switch one.answer.Status {
	case http.StatusAccepted:
		if one.answer.Replayed {
			c.w.Header().Set(replayedHeader, "true")
		}
		return c.writeJSON(http.StatusAccepted, reportedAnswer{one.answer.Replayed})
	case http.StatusConflict:
		return keyReusedProblem()
	default:
		return invalidProblem(one.answer.Errors...)
	}
}

// takeReports stores the valid lines in their order and answers each.
func (a *API) takeReports(ctx context.Context, app partner.ClientID, kind partner.EndpointKind, key string, lines []line) error {
	good := make([]line, 0, len(lines))
	reports := make([]registry.Report, 0, len(lines))
	hashes := make(map[int]string, len(lines))
	for _, l := range lines {
		r, err := readReport(l.doc)
		if err != nil {
			p, _ := problemFromError(err, nil)
			l.setProblem(p)
			continue
		}
		r.Line = l.number
		hashes[l.number] = digestJSON(l.doc)
		good, reports = append(good, l), append(reports, r)
	}
	if key != "" && len(good) > 0 {
		conflicts, err := a.Keys.BindIdempotencyKey(ctx, key, hashes)
		if err != nil {
			return err
		}
		good, reports = dropConflictingLines(good, reports, conflicts)
	}
	if len(good) == 0 {
		return nil
	}
	replayed, err := a.ErrorReports.Report(ctx, app, kind, key, reports)
	if err != nil {
		return err
	}
	for i, l := range good {
		*l.answer = lineAnswer{Line: l.number, Status: http.StatusAccepted, Replayed: replayed[i]}
	}
	return nil
}

// readReport reads one report.
func readReport(doc any) (registry.Report, error) {
	f := &faults{}
	o := newObjectReader(doc, f, false)
	succeeded := false
	if outcome, ok := o.readString("outcome"); ok {
		if succeeded = outcome == "succeeded"; !succeeded && outcome != "failed" {
			o.add(o.pointerTo("outcome"), "must be failed or succeeded")
		}
	}
	r := registry.Report{Tenant: readTenant(o)}
	var occurred time.Time
	if s, ok := o.readString("occurred_at"); ok {
		occurred = readTime(o, "occurred_at", s)
	}
	if succeeded {
		for _, name := range []string{"reason", "status", "excerpt"} {
			o.refuseMember(name, "belongs to a failure alone")
		}
		o.reportUnknownMembers()
		return r, f.err()
	}
	r.Failure = &incident.Failure{Source: incident.SourceReport, Reason: readReason(o), OccurredAt: occurred}
	status, _ := o.readInt("status", 0, 599)
	if status > 0 && status < 100 {
		o.add(o.pointerTo("status"), "must be an HTTP status from 100 to 599, or 0 when there was no answer")
	}
	r.Failure.Status = int(status)
	if s, ok := o.readString("excerpt"); ok {
		if utf8.RuneCountInString(s) > maxExcerpt {
			o.add(o.pointerTo("excerpt"), fmt.Sprintf("must be at most %d characters", maxExcerpt))
		}
		r.Failure.Excerpt = secret.MakeExcerpt([]byte(s), keptExcerpt)
	}
	o.reportUnknownMembers()
	return r, f.err()
}

// readReason reads why a call failed: one of the reasons that deliveries and probes use, too.
func readReason(o *objectReader) delivery.Reason {
	word, ok := o.readRequiredString("reason")
	if !ok {
		return delivery.ReasonNone
	}
	reason, known := delivery.ParseReason(word)
	if !known || reason == delivery.ReasonNone || reason == delivery.ReasonOwnFault {
		o.add(o.pointerTo("reason"), "must be one of "+strings.Join(reportReasons(), ", "))
	}
	return reason
}

// reportReasons are the reasons of deliveries and probes that an engine may report.
func reportReasons() []string {
	var words []string
	for _, r := range delivery.AllReasons() {
		if r != delivery.ReasonNone && r != delivery.ReasonOwnFault {
			words = append(words, r.String())
		}
	}
	return words
}

type reportedAnswer struct {
	Replayed bool `json:"replayed" doc:"It was stored before under the same key."`
}

// errorReport describes a report in the API's document. readReport reads one.
type errorReport struct {
	_          struct{}  `api:"closed"`
	Tenant     tenant.ID `json:"tenant" api:"required"`
	Outcome    string    `json:"outcome" api:"ref=ReportOutcome"`
	Reason     string    `json:"reason" api:"ref=ReportReason" doc:"Required for a failure."`
	Status     int       `json:"status" api:"min=0,max=599" doc:"The HTTP status; 0 without an answer."`
	Excerpt    string    `json:"excerpt" api:"maxLength=2000"`
	OccurredAt time.Time `json:"occurred_at" doc:"Only checked: the order is that of acceptance."`
}
