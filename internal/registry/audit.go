package registry

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// AuditQuery selects audit entries. Its zero value is the newest page of all.
type AuditQuery struct {
	// After is the cursor from the previous page, empty for the first.
	After string
	// Limit is how many entries at most: 100 when 0, 500 at most.
	Limit int
	// Changes selects accepted state changes instead of all other writes. State changes are too many to be listed together with
	// these.
	Changes bool
	// Subject selects the entries of one subject.
	Subject string
	// Actions selects the entries whose action starts with one of these, such as "app." and "endpoint.". A tenant may have the
	// same name as an app, so a subject alone does not distinguish them.
	Actions []string
}

// ActionChange is the action of an accepted state change; these entries have a stream of their own.
const ActionChange = "change.accept"

// The scripts of the audit.
var (
	auditPartner = newScript("audit", "note")
	auditPage    = newScript("audit_page")
	auditNext    = newScript("audit_next")
)

func (s *Store) auditStreamKey(changes bool) string {
	if changes {
		return s.keys.Config(keys.ConfigAuditChanges)
	}
	return s.keys.Config(keys.ConfigAudit)
}

// partnerAuditKeys returns the stream of partners' writes, the list of this partner's entries there and the count of all of them;
// nil for any other role.
func (s *Store) partnerAuditKeys(role string) []string {
	app, ok := strings.CutPrefix(role, partnerRole(""))
	if !ok {
		return nil
	}
	return []string{s.keys.Config(keys.ConfigAuditPartners), s.partnerAuditListKey(partner.ClientID(app)), s.keys.Config(keys.ConfigAuditCount)}
}

func (s *Store) partnerAuditListKey(app partner.ClientID) string {
	return s.keys.Config(keys.ConfigAuditOf) + ":" + string(app)
}

func (q AuditQuery) matchesEntry(e AuditEntry) bool {
	if q.Subject != "" && e.Subject != q.Subject {
		return false
	}
	for _, a := range q.Actions {
		if strings.HasPrefix(e.Action, a) {
			return true
		}
	}
	return len(q.Actions) == 0
}

const (
	// auditScan is how many entries one query examines at most, and auditScanBytes how many bytes of them. They bound the time of
	// a query whose filter matches few entries.
	auditScan      = 10_000
	auditScanBytes = 16 << 20
	// auditPageBytes ends a page early, so that the memory of a reader is bounded whatever the entries hold.
	auditPageBytes = 256 << 10
)

// AppendAudit appends entries in their order. Redis assigns their ID and time. It keeps about Options.AuditKeep entries of writes
// by staff and the service, as many of state changes, and as many of partners, 500 of each partner. Before and After MUST hold no
// secret; they are shortened to the limits of an entry, and the queries of URLs are hidden.
func (s *Store) AppendAudit(ctx context.Context, entries ...AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	var others []AuditEntry
	for _, e := range entries {
		e = e.redactedCopy()
		partners := s.partnerAuditKeys(e.Role)
		if partners == nil {
			others = append(others, e)
			continue
		}
		err := auditPartner.run(ctx, s.rdb, partners, s.opts.AuditKeep, e.Actor, e.Role, e.RequestID, e.Action, e.Subject, e.Before, e.After).Err()
		if err != nil {
			return wrapError(err, "append to the audit")
		}
	}
	if len(others) == 0 {
		return nil
	}
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, e := range others {
			p.XAdd(ctx, &redis.XAddArgs{
				Stream: s.auditStreamKey(e.Action == ActionChange), MaxLen: int64(s.opts.AuditKeep), Approx: true,
				Values: []string{
					"v", strconv.Itoa(format), "actor", e.Actor, "role", e.Role, "request", e.RequestID,
					"action", e.Action, "subject", e.Subject, "before", e.Before, "after", e.After,
				},
			})
		}
		return nil
	})
	return wrapError(err, "append to the audit")
}

// AuditEntries lists entries, newest first, including those of partners. next is the cursor of the next page, empty if there is
// none. A page may hold fewer entries than requested, even none, and still have a next one, because it also ends by bytes.
// Errors: ErrUnreadable.
func (s *Store) AuditEntries(ctx context.Context, q AuditQuery) (entries []AuditEntry, next string, err error) {
	limit, bytes := clampPageSize(q.Limit), 0
	next = q.After
	for scan := (auditChunk{}); scan.looked < auditScan && scan.bytes < auditScanBytes; {
		page, err := s.readAuditChunk(ctx, q, next, limit-len(entries))
		if err != nil {
			return nil, "", err
		}
		for _, e := range page.entries {
			if q.matchesEntry(e) {
				entries = append(entries, e)
				bytes += len(e.Before) + len(e.After)
			}
		}
		if !page.more {
			return entries, "", nil
		}
		if next = page.at; len(entries) == limit || bytes >= auditPageBytes {
			break
		}
		scan.looked, scan.bytes = scan.looked+page.looked, scan.bytes+page.bytes
	}
	return entries, next, nil
}

// auditChunk is the result of one run of the script.
type auditChunk struct {
	entries       []AuditEntry
	at            string
	looked, bytes int
	more          bool
}

// readAuditChunk reads entries behind a cursor. The cursor of a partner's entry ends in "p", as its ID does: it comes after an
// entry of the other stream with the same stamp.
func (s *Store) readAuditChunk(ctx context.Context, q AuditQuery, after string, want int) (auditChunk, error) {
	ks, from := []string{s.auditStreamKey(q.Changes)}, []any{"+", "+"}
	if !q.Changes {
		ks = append(ks, s.keys.Config(keys.ConfigAuditPartners))
	}
	if id, ofPartner := strings.CutSuffix(after, partnersMark); id != "" {
		from = []any{"(" + id, id}
		if ofPartner {
			from[1] = "(" + id
		}
	}
	v, err := auditPage.run(ctx, s.rdb, ks, append(from, q.Subject, want, maxPage, auditPageBytes)...).Slice()
	if err != nil {
		return auditChunk{}, wrapError(err, "read the audit")
	}
	bad := fmt.Errorf("read the audit: %w", newAnswerError(auditPage, v))
	if len(v) < 5 {
		return auditChunk{}, bad
	}
	number := func(i int) int {
		n, _ := v[i].(int64)
		return int(n)
	}
	look := auditChunk{more: number(0) == 1, looked: number(3), bytes: number(4)}
	at, _ := v[2].(string)
	look.at = formatAuditID(number(1), at)
	for _, one := range v[5:] {
		e, ok := one.([]any)
		if !ok || len(e) != 3 {
			return auditChunk{}, bad
		}
		stream, ok1 := e[0].(int64)
		m, ok2 := decodeStreamMessage(e[1:])
		if !ok1 || !ok2 {
			return auditChunk{}, bad
		}
		entry, err := decodeAuditEntry(m)
		if err != nil {
			return auditChunk{}, err
		}
		entry.ID = formatAuditID(int(stream), m.ID)
		look.entries = append(look.entries, entry)
	}
	return look, nil
}

// decodeStreamMessage decodes an entry of a stream as a script returns it: {id, {field, value...}}.
func decodeStreamMessage(v any) (m redis.XMessage, ok bool) {
	pair, _ := v.([]any)
	if len(pair) != 2 {
		return m, false
	}
	id, ok1 := pair[0].(string)
	fields, ok2 := pair[1].([]any)
	m = redis.XMessage{ID: id, Values: make(map[string]any, len(fields)/2)}
	for i := 0; i+1 < len(fields); i += 2 {
		if name, ok := fields[i].(string); ok {
			m.Values[name] = fields[i+1]
		}
	}
	return m, ok1 && ok2
}

// partnersMark ends the ID of an entry of the partners' stream: entries of the two streams may have the same stamp.
const partnersMark = "p"

func formatAuditID(stream int, id string) string {
	if stream == 2 {
		return id + partnersMark
	}
	return id
}

func decodeAuditEntry(m redis.XMessage) (AuditEntry, error) {
	text := func(field string) string {
		v, _ := m.Values[field].(string)
		return v
	}
	stamp, _, _ := strings.Cut(m.ID, "-")
	ms, err := strconv.ParseInt(stamp, 10, 64)
	if v := text("v"); v != strconv.Itoa(format) || err != nil {
		return AuditEntry{}, fmt.Errorf("%w: audit entry %s has format %q", ErrUnreadable, m.ID, v)
	}
	e := AuditEntry{
		ID: m.ID, At: time.UnixMilli(ms).UTC(), Actor: text("actor"), Role: text("role"), RequestID: text("request"),
		Action: text("action"), Subject: text("subject"), Before: text("before"), After: text("after"),
	}
	return e.redactedCopy(), nil // entries of older versions may be long and unredacted
}
