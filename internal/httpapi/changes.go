package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Changes accepts changes and knows which apps received them.
type Changes interface {
	// Accept returns each request's result at its index. Accepted changes are durable on return. After a change
	// that may or may not be accepted, it accepts no later one of the same tenant: those get
	// registry.ErrUndecided.
	Accept(ctx context.Context, reqs []registry.ChangeRequest) ([]registry.AcceptResult, error)
	// DeliveryStatus returns registry.ErrNotFound for a change that is not known or no longer kept.
	DeliveryStatus(ctx context.Context, changeID string) (intake.DeliveryStatus, error)
}

// KeyBinder binds idempotency keys to the content that they came with.
type KeyBinder interface {
	// BindIdempotencyKey stores each line's hash under the key, and returns the lines that came with another hash
	// before.
	BindIdempotencyKey(ctx context.Context, key string, lines map[int]string) (conflicts []int, err error)
}

const (
	maxVersion        = 200
	maxIdempotencyKey = 255
	// keyScope separates the idempotency keys of this operation from those of others.
	keyScope = "state-changes/"
	// onlyLine is the line that a body of one JSON object counts as.
	onlyLine = 1
)

func (a *API) postStateChanges(c *call) error {
	key, err := readIdempotencyKey(c.r.Header, keyScope+callerScope(c)+"\n")
	if err != nil {
		return err
	}
	if mediaType(c.r) == typeLines {
		undecided := map[tenant.ID]bool{}
		return a.streamLines(c, a.Refused, func(ctx context.Context, lines []line) error { return a.acceptLines(ctx, c, key, lines, undecided) })
	}
	doc, err := c.readDocument()
	if err != nil {
		a.Refused(1)
		return err
	}
	req, err := readChange(doc)
	if err != nil {
		a.Refused(1)
		return err
	}
	c.tenant = req.Tenant
	if key != "" {
		req.IdempotencyKey, req.Line = key, onlyLine
		conflicts, err := a.Keys.BindIdempotencyKey(c.ctx(), key, map[int]string{onlyLine: digestJSON(doc)})
		if err != nil {
			return err
		}
		if len(conflicts) > 0 {
			return keyReusedProblem()
		}
	}
	results, err := a.Changes.Accept(c.ctx(), []registry.ChangeRequest{req})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return err
	}
	accepted := results[0].Accepted
	a.auditChanges(c, []acceptedChange{{req, accepted}})
	c.change = accepted.ID
	c.w.Header().Set("Location", "/v1/state-changes/"+accepted.ID)
	if accepted.Replayed {
		c.w.Header().Set(replayedHeader, "true")
	}
	return c.writeJSON(http.StatusAccepted, acceptedAnswer{accepted.ID, accepted.Tenant, accepted.Sequence, accepted.Apps})
}

type acceptedAnswer struct {
	ID       string    `json:"id"`
	Tenant   tenant.ID `json:"tenant"`
	Sequence int64     `json:"sequence"`
	Apps     int       `json:"apps" api:"min=0" doc:"How many apps the tenant had approved."`
}

// changeRequest describes a state change in the API's document. readChange reads one.
type changeRequest struct {
	_              struct{}          `api:"closed"`
	Tenant         tenant.ID         `json:"tenant" api:"required"`
	ChangeType     tenant.ChangeType `json:"change_type" api:"required"`
	PublicEndpoint string            `json:"public_endpoint" api:"maxLength=253" doc:"A host name. Required for move, and only there."`
	VersionName    string            `json:"version_name" api:"maxLength=200" doc:"The tenant's last known when absent."`
	FileVersion    string            `json:"file_version" api:"maxLength=200" doc:"The tenant's last known when absent."`
	OccurredAt     time.Time         `json:"occurred_at" doc:"Recorded only: the order is that of acceptance."`
	SourceSequence int64             `json:"source_sequence" api:"min=1,max=9007199254740991" doc:"The number that the source gives its changes of the tenant, in digits only; it grows with each change. A change whose number is not above the highest accepted one is refused (409, out-of-order). A change without a number is not compared, and does not alter the highest."`
}

// acceptLines accepts the valid lines of a batch in their order. undecided are the tenants with a change in an earlier
// batch of the body that may or may not be accepted. Their later lines are not tried.
func (a *API) acceptLines(ctx context.Context, c *call, key string, lines []line, undecided map[tenant.ID]bool) error {
	good := make([]line, 0, len(lines))
	reqs := make([]registry.ChangeRequest, 0, len(lines))
	hashes := make(map[int]string, len(lines))
	for _, l := range lines {
		req, err := readChange(l.doc)
		if err != nil {
			p, _ := problemFromError(err, nil)
			l.setProblem(p)
			continue
		}
		if undecided[req.Tenant] {
			l.setProblem(undecidedChangeProblem())
			continue
		}
		if key != "" {
			req.IdempotencyKey, req.Line = key, l.number
			hashes[l.number] = digestJSON(l.doc)
		}
		good, reqs = append(good, l), append(reqs, req)
	}
	if key != "" && len(good) > 0 {
		conflicts, err := a.Keys.BindIdempotencyKey(ctx, key, hashes)
		if err != nil {
			return err
		}
		good, reqs = dropConflictingLines(good, reqs, conflicts)
	}
	if len(good) == 0 {
		return nil
	}
	results, err := a.Changes.Accept(ctx, reqs)
	if err != nil {
		return err
	}
	var done []acceptedChange
	for i, r := range results {
		if r.Err == nil {
			done = append(done, acceptedChange{reqs[i], r.Accepted})
		}
	}
	a.auditChanges(c, done)
	for i, r := range results {
		if r.Err == nil {
			continue
		}
		if p, _ := problemFromError(r.Err, a.StoreFault); p.Status >= http.StatusInternalServerError {
			undecided[reqs[i].Tenant] = true
		}
	}
	return a.answerLines(ctx, good, results)
}

// answerLines answers each line with its result. A line that fails by its own fault gets that answer; the returned error
// is the store's.
func (a *API) answerLines(ctx context.Context, lines []line, results []registry.AcceptResult) error {
	var failed error
	for i, l := range lines {
		r := results[i]
		if r.Err == nil {
			*l.answer = lineAnswer{Line: l.number, Status: http.StatusAccepted, ID: r.Accepted.ID, Sequence: r.Accepted.Sequence, Replayed: r.Accepted.Replayed}
			continue
		}
		p, unexpected := problemFromError(r.Err, a.StoreFault)
		switch {
		case errors.Is(r.Err, registry.ErrUndecided): // the answer of the earlier line says what failed
			l.setProblem(p)
		case p.Status == http.StatusServiceUnavailable:
			failed = errors.Join(failed, r.Err)
		case unexpected:
			a.Log.LogAttrs(ctx, slog.LevelError, "change of a line not accepted", slog.Int("line", l.number), slog.Any("err", r.Err))
			l.setProblem(p)
		default:
			l.setProblem(p)
		}
	}
	return failed
}

// undecidedChangeProblem refuses a change because an earlier one of its tenant may or may not be accepted.
func undecidedChangeProblem() *Problem {
	p := unavailableProblem()
	p.Detail = "Not done, because an earlier change of this tenant is not decided: send that one and all of the tenant after it again in this order, with the same Idempotency-Key."
	return p
}

// outOfOrderProblem refuses a change whose source_sequence is not above the highest accepted one.
func outOfOrderProblem() *Problem {
	p := newProblem(http.StatusConflict, "out-of-order", "A newer change of the tenant was accepted before",
		"A change of this tenant with the same or a higher source_sequence was accepted: nothing was changed, and nothing is to be repeated.")
	p.Errors = []FieldError{{Pointer: "/source_sequence", Detail: "is not above the highest that was accepted for the tenant"}}
	return p
}

// dropConflictingLines answers the lines whose key came with another body and leaves them out.
func dropConflictingLines[T any](lines []line, reqs []T, conflicts []int) ([]line, []T) {
	keptLines, keptReqs := lines[:0], reqs[:0]
	for i, l := range lines {
		if slices.Contains(conflicts, l.number) {
			l.setProblem(keyReusedProblem())
			continue
		}
		keptLines, keptReqs = append(keptLines, l), append(keptReqs, reqs[i])
	}
	return keptLines, keptReqs
}

// readIdempotencyKey reads the header, empty when there is none.
func readIdempotencyKey(h http.Header, scope string) (string, error) {
	values := h.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 || len(values[0]) > maxIdempotencyKey || !isVisibleASCII(values[0]) {
		return "", newProblem(http.StatusBadRequest, "idempotency-key", "The Idempotency-Key cannot be used",
			fmt.Sprintf("It must be one header of 1 to %d visible ASCII characters.", maxIdempotencyKey))
	}
	return scope + values[0], nil
}

// digestJSON is the same for all spellings of a JSON document: the order of members, white space and escapes do not
// count.
func digestJSON(doc any) string {
	b, err := json.Marshal(doc)
	if err != nil { // what parse made always marshals
		panic("httpapi: digest: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// readChange reads a state change.
func readChange(doc any) (registry.ChangeRequest, error) {
	f := &faults{}
	o := newObjectReader(doc, f, false)
	req := registry.ChangeRequest{Tenant: readTenant(o)}
	known := false
	if word, ok := o.readRequiredString("change_type"); ok {
		t, err := tenant.ParseChangeType(word)
		if err != nil {
			o.add(o.pointerTo("change_type"), err.Error())
		}
		req.Type, known = t, err == nil
	}
	req.VersionName, req.FileVersion = readVersion(o, "version_name"), readVersion(o, "file_version")
	_, given := o.members["public_endpoint"]
	host := readHost(o)
	switch {
	case known && req.Type == tenant.Move && !given:
		o.add(o.pointerTo("public_endpoint"), "is required for a move")
	case known && req.Type == tenant.Move && host != nil && *host == "":
		o.add(o.pointerTo("public_endpoint"), "must not be empty for a move")
	case known && req.Type != tenant.Move && given:
		o.add(o.pointerTo("public_endpoint"), "belongs to a move alone")
	case host != nil:
		req.PublicEndpoint = *host
	}
	if s, ok := o.readString("occurred_at"); ok {
		req.OccurredAt = readTime(o, "occurred_at", s)
	}
	req.SourceSequence, _ = o.readInt("source_sequence", 1, registry.MaxSourceSequence)
	o.reportUnknownMembers()
	return req, f.err()
}

func readTime(o *objectReader, name, s string) time.Time {
	t, err := parseTime(s)
	if err != nil || t.Year() < 1970 || t.Year() > 9998 {
		o.add(o.pointerTo(name), "must be a time such as 2026-11-24T10:15:00Z (RFC 3339)")
		return time.Time{}
	}
	return t.UTC()
}

// parseTime reads a time of RFC 3339 (section 5.6), of which package time reads only a part: letters may be lower-case,
// and the last minute of a day in UTC may have a second 60. That is read as the first second of the next day.
func parseTime(s string) (time.Time, error) {
	s = strings.ToUpper(s)
	leap := len(s) > len("2006-01-02T15:04:05") && s[17:19] == "60"
	if leap {
		s = s[:17] + "59" + s[19:]
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || !leap {
		return t, err //nolint:wrapcheck // callers say what is expected
	}
	if u := t.UTC(); u.Hour() != 23 || u.Minute() != 59 {
		return t, errNoLeapSecond
	}
	return t.Add(time.Second), nil
}

var errNoLeapSecond = errors.New("second 60 outside of the last minute of a day in UTC")

// readVersion reads a version, nil when it is absent.
func readVersion(o *objectReader, name string) *string {
	s, ok := o.readString(name)
	switch {
	case !ok:
		return nil
	case utf8.RuneCountInString(s) > maxVersion:
		o.add(o.pointerTo(name), fmt.Sprintf("must be at most %d characters", maxVersion))
	case strings.ContainsFunc(s, unicode.IsControl):
		o.add(o.pointerTo(name), "must not hold control characters")
	}
	return &s
}

// readHost reads the member "public_endpoint": a host name, perhaps empty; nil when it is absent.
func readHost(o *objectReader) *string {
	s, ok := o.readString("public_endpoint")
	if !ok {
		return nil
	}
	if s != "" && !isHostName(s) {
		o.add(o.pointerTo("public_endpoint"), "must be a host name such as online3.superoffice.com, without scheme, port or path")
	}
	return &s
}

// isHostName reports whether s is a DNS host name (RFC 1123 section 2.1).
func isHostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

func (a *API) getStateChange(c *call) error {
	id := c.r.PathValue("id")
	t, _, err := tenant.ParseChangeID(id)
	if err != nil {
		return notFoundProblem("state change")
	}
	c.tenant, c.change = t, id
	k, err := a.Changes.DeliveryStatus(c.ctx(), id)
	if errors.Is(err, registry.ErrNotFound) {
		return notFoundProblem("state change, or it is no longer kept")
	}
	if err != nil {
		return err
	}
	apps := make([]appDelivery, len(k.Apps))
	for i, d := range k.Apps {
		apps[i] = appDelivery(d)
	}
	return c.writeJSON(http.StatusOK, changeStatusAnswer{
		k.Change.ID, k.Change.Tenant, k.Change.Type, k.Change.Sequence, k.Change.AcceptedAt.UTC(), k.Change.OccurredAt.UTC(),
		k.Change.VersionName, k.Change.FileVersion, k.Change.PublicEndpoint, k.InStep, apps,
	})
}

type changeStatusAnswer struct {
	ID             string            `json:"id"`
	Tenant         tenant.ID         `json:"tenant"`
	ChangeType     tenant.ChangeType `json:"change_type"`
	Sequence       int64             `json:"sequence"`
	AcceptedAt     time.Time         `json:"accepted_at"`
	OccurredAt     time.Time         `json:"occurred_at,omitzero"`
	VersionName    string            `json:"version_name,omitempty"`
	FileVersion    string            `json:"file_version,omitempty"`
	PublicEndpoint string            `json:"public_endpoint,omitempty"`
	InStep         bool              `json:"in_step" doc:"True when every app has received it, and nothing newer is pending. It is about the present, and may become false again."`
	Apps           []appDelivery     `json:"apps"`
}

// appDelivery is an intake.AppDelivery in an answer.
type appDelivery struct {
	ClientID      partner.ClientID     `json:"client_id"`
	State         intake.DeliveryState `json:"outcome" api:"ref=DeliveryState" doc:"settled: the app received it, or a newer change that replaced it; waiting: it or a newer one is pending."`
	ReplacedBy    string               `json:"replaced_by,omitempty" doc:"The newer change, or status set since, that is delivered instead."`
	Attempts      int                  `json:"attempts" api:"min=0"`
	Reason        string               `json:"reason,omitempty"`
	NextAttemptAt time.Time            `json:"next_attempt_at,omitzero"`
}
