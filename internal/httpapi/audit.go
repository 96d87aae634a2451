package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Audit lists writes, newest first.
type Audit interface {
	AuditEntries(ctx context.Context, q registry.AuditQuery) (entries []registry.AuditEntry, next string, err error)
}

// Auditor writes audit entries for actions that no store audits itself.
type Auditor interface {
	AppendAudit(ctx context.Context, entries ...registry.AuditEntry) error
}

// auditAction writes the entry of an action that is done. It returns an error when that fails; the caller may
// repeat the action.
func (a *API) auditAction(c *call, action, subject, after string) error {
	if a.Auditor == nil {
		return nil
	}
	return a.Auditor.AppendAudit(c.ctx(), registry.AuditEntry{
		Actor: c.actor.Name, Role: c.actor.Role, RequestID: c.id, Action: action, Subject: subject, After: after,
	})
}

// changesAuditWithin bounds the writing of the entries of accepted changes.
const changesAuditWithin = 5 * time.Second

// auditChanges writes the entries of accepted changes, in their order. A failure does not undo the changes:
// entries that cannot be written are logged instead.
func (a *API) auditChanges(c *call, accepted []acceptedChange) {
	var entries []registry.AuditEntry
	for _, x := range accepted {
		if x.accepted.Replayed { // audited when it was accepted
			continue
		}
		after, err := json.Marshal(struct {
			ID             string            `json:"id"`
			Type           tenant.ChangeType `json:"change_type"`
			Sequence       int64             `json:"sequence"`
			PublicEndpoint string            `json:"public_endpoint,omitempty"`
			SourceSequence int64             `json:"source_sequence,omitempty"`
		}{x.accepted.ID, x.req.Type, x.accepted.Sequence, x.req.PublicEndpoint, x.req.SourceSequence})
		if err != nil { // strings and integers always marshal
			panic("httpapi: marshal a change: " + err.Error())
		}
		entries = append(entries, registry.AuditEntry{
			Actor: c.actor.Name, Role: c.actor.Role, RequestID: c.id, Action: registry.ActionChange, Subject: string(x.accepted.Tenant), After: string(after),
		})
	}
	if a.Auditor == nil || len(entries) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), changesAuditWithin)
	defer cancel()
	if err := a.Auditor.AppendAudit(ctx, entries...); err != nil {
		a.Log.LogAttrs(ctx, slog.LevelError, "accepted changes are not in the audit", slog.String("request_id", c.id),
			slog.String("actor", c.actor.Name), slog.Int("changes", len(entries)), slog.String("first", entries[0].After), slog.Any("err", err))
	}
}

// acceptedChange is a change with its result.
type acceptedChange struct {
	req      registry.ChangeRequest
	accepted registry.Accepted
}

type auditAnswer struct {
	ID        string          `json:"id"`
	At        time.Time       `json:"at"`
	Actor     string          `json:"actor"`
	Role      string          `json:"role"`
	RequestID string          `json:"request_id,omitempty"`
	Action    string          `json:"action"`
	Subject   string          `json:"subject"`
	Before    json.RawMessage `json:"before,omitempty" doc:"The changed members before the write, without secrets; long values as their sha256 and bytes."`
	After     json.RawMessage `json:"after,omitempty" doc:"The changed members after the write, without secrets; long values as their sha256 and bytes."`
}

// appActionPrefixes are the prefixes of the actions whose subject is an app.
func appActionPrefixes() []string { return []string{"app.", "endpoint.", "approval.", "incident."} }

// maxSubject is longer than any tenant's or app's id.
const maxSubject = 128

// The streams of the audit.
const (
	auditOfSettings = "settings"
	auditOfChanges  = "changes"
)

// auditFilters are the query parameters that select the entries of a list or an export.
func auditFilters() []string { return []string{"client_id", "subject", "of"} }

// readAuditQuery reads the query of a list or an export.
func (a *API) readAuditQuery(c *call, p pageRequest) (registry.AuditQuery, error) {
	app, err := c.readAppFilter("client_id")
	if err != nil {
		return registry.AuditQuery{}, err
	}
	query := c.r.URL.Query()
	subject, which := query.Get("subject"), query.Get("of")
	q := registry.AuditQuery{After: p.after, Limit: p.limit, Subject: subject, Changes: which == auditOfChanges}
	switch {
	case which != "" && which != auditOfSettings && which != auditOfChanges:
		return q, invalidProblem(FieldError{Pointer: "/of", Detail: "must be settings or changes"})
	case q.Changes && c.role.Kind == Partner:
		return q, forbiddenProblem("State changes are not a partner's.")
	case q.Changes && app != "":
		return q, invalidProblem(FieldError{Pointer: "/client_id", Detail: "must be absent where of is changes: they are a tenant's"})
	case len(subject) > maxSubject:
		return q, invalidProblem(FieldError{Pointer: "/subject", Detail: "is longer than any subject"})
	case app != "" && subject != "" && subject != string(app):
		return q, invalidProblem(FieldError{Pointer: "/subject", Detail: "must be absent, or the client_id, when client_id is given"})
	case app != "":
		q.Subject, q.Actions = string(app), appActionPrefixes()
	}
	if !isAuditPosition(p.after) {
		return q, badCursorProblem()
	}
	c.app = app
	return q, nil
}

func newAuditAnswer(e registry.AuditEntry) auditAnswer {
	return auditAnswer{e.ID, e.At.UTC(), e.Actor, e.Role, e.RequestID, e.Action, e.Subject, registry.EncodeAuditValue(e.Before), registry.EncodeAuditValue(e.After)}
}

// readAudit reads a page in its turn: a page takes a core for milliseconds, and exports read one after another.
func (a *API) readAudit(ctx context.Context, q registry.AuditQuery) (entries []registry.AuditEntry, next string, err error) {
	if err := a.auditReads.Acquire(ctx, 1); err != nil {
		return nil, "", fmt.Errorf("wait to read the audit: %w", err)
	}
	defer a.auditReads.Release(1)
	return a.Audit.AuditEntries(ctx, q)
}

const (
	// exportedAtOnce is how many entries an export reads at once.
	exportedAtOnce = 100
	// longestRest bounds the time between two pages of exports.
	longestRest = 50 * time.Millisecond
)

func (a *API) listAudit(c *call) error {
	p, err := c.readPage("audit", auditFilters()...)
	if err != nil {
		return err
	}
	q, err := a.readAuditQuery(c, p)
	if err != nil {
		return err
	}
	entries, next, err := a.readAudit(c.ctx(), q)
	if err != nil {
		return err
	}
	items := make([]auditAnswer, len(entries))
	for i, e := range entries {
		items[i] = c.maskedAuditAnswer(e)
	}
	return c.writeJSON(http.StatusOK, newPageAnswer(p, items, next))
}

// exportAudit writes all entries, newest first, one a line. When it fails in the middle, the connection ends without
// the last chunk, so that the answer does not look complete. Each page is small and has its own write deadline. Before
// each page the caller's token is looked up again.
func (a *API) exportAudit(c *call) error {
	if err := c.allowParameters(auditFilters()...); err != nil {
		return err
	}
	q, err := a.readAuditQuery(c, pageRequest{})
	if err != nil {
		return err
	}
	q.Limit = exportedAtOnce
	page, next, err := a.encodeAuditPage(c, q)
	if err != nil {
		return err
	}
	c.setNDJSONHeaders()
	for {
		if _, err := c.w.Write(page); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		q.After = next
		if err = a.auth.recheckToken(c.ctx(), c.token, a.Now()); err == nil {
			page, next, err = a.encodeAuditPage(c, q)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errCutShort, err)
		}
	}
}

// encodeAuditPage reads one page as lines, and sets the write deadline for them. Pages of exports come one
// after another, and after each is a rest as long as it took, of longestRest at most, so that exports together leave time to others.
func (a *API) encodeAuditPage(c *call, q registry.AuditQuery) (lines []byte, next string, err error) {
	ctx, cancel := context.WithTimeout(c.ctx(), requestWithin)
	defer cancel()
	if err := a.exports.Acquire(ctx, 1); err != nil {
		return nil, "", fmt.Errorf("wait to export the audit: %w", err)
	}
	defer a.exports.Release(1)
	began := time.Now()
	defer func() {
		select {
		case <-ctx.Done():
		case <-time.After(min(time.Since(began), longestRest)):
		}
	}()
	entries, next, err := a.readAudit(ctx, q)
	if err != nil {
		return nil, "", err
	}
	for _, e := range entries {
		line, err := encodeJSON(c.maskedAuditAnswer(e))
		if err != nil {
			return nil, "", err
		}
		lines = append(lines, line...)
	}
	return lines, next, ignoreUnsupported(http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(lineWithin)))
}

// setNDJSONHeaders begins an answer of NDJSON.
func (c *call) setNDJSONHeaders() {
	h := c.w.Header()
	h.Set("Content-Type", typeLines)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// isAuditPosition reports whether s is empty or has the form of a position in the audit; partners' positions end in p.
func isAuditPosition(s string) bool {
	s = strings.TrimSuffix(s, "p")
	return s == "" || len(s) <= 40 && strings.Trim(s, "0123456789-") == "" && s[0] != '-' && strings.Count(s, "-") <= 1
}
