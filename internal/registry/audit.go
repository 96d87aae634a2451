package registry

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// AuditQuery chooses audit entries. Its zero value is the newest page of all.
type AuditQuery struct {
	// After is the cursor of the page before, empty for the first.
	After string
	// Limit is how many entries at most: 100 when 0, 500 at most.
	Limit int
	// Changes lists accepted state changes instead of all other writes: they come by the thousand,
	// and would push the others out.
	Changes bool
	// Subject keeps the entries of one subject.
	Subject string
	// Actions keeps the entries whose action starts with one of these, such as "app." and
	// "endpoint.": a tenant may bear an app's name, so a subject alone does not tell them apart.
	Actions []string
}

// ActionChange is the action of an accepted state change, whose entries have a stream of their own.
const ActionChange = "change.accept"

func (s *Store) auditKey(changes bool) string {
	if changes {
		return s.keys.Config(keys.ConfigAuditChanges)
	}
	return s.keys.Config(keys.ConfigAudit)
}

func (q AuditQuery) matches(e AuditEntry) bool {
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

// auditScan is how many entries one query looks at, at most: it bounds the time that a filter
// which matches little can take.
const auditScan = 10000

// Audit appends entries in their order. Their ID and time are given by Redis, which keeps about
// Options.AuditKeep of them, and as many of state changes. Before and After MUST hold no secret.
func (s *Store) Audit(ctx context.Context, entries ...AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, e := range entries {
			p.XAdd(ctx, &redis.XAddArgs{
				Stream: s.auditKey(e.Action == ActionChange), MaxLen: int64(s.opts.AuditKeep), Approx: true,
				Values: []string{
					"v", strconv.Itoa(format), "actor", e.Actor, "role", e.Role, "request", e.RequestID,
					"action", e.Action, "subject", e.Subject, "before", e.Before, "after", e.After,
				},
			})
		}
		return nil
	})
	return failure(err, "append to the audit")
}

// AuditEntries lists entries, newest first. next is the cursor of the next page, empty when there
// is none; a page may hold fewer entries than asked for, even none, and still have a next one.
// Errors: ErrUnreadable.
func (s *Store) AuditEntries(ctx context.Context, q AuditQuery) (entries []AuditEntry, next string, err error) {
	limit := pageSize(q.Limit)
	cursor, count := q.After, maxPage
	if q.Subject == "" && len(q.Actions) == 0 {
		count = limit + 1 // the one beyond tells whether there is a next page
	}
	for scanned := 0; scanned < auditScan; {
		newest := "+"
		if cursor != "" {
			newest = "(" + cursor
		}
		page, err := s.rdb.XRevRangeN(ctx, s.auditKey(q.Changes), newest, "-", int64(count)).Result()
		if err != nil {
			return nil, "", failure(err, "read the audit")
		}
		for _, m := range page {
			e, err := decodeAudit(m)
			if err != nil {
				return nil, "", err
			}
			if q.matches(e) {
				if len(entries) == limit {
					return entries, cursor, nil
				}
				entries = append(entries, e)
			}
			cursor = m.ID
		}
		if len(page) < count {
			return entries, "", nil
		}
		scanned += len(page)
	}
	return entries, cursor, nil
}

func decodeAudit(m redis.XMessage) (AuditEntry, error) {
	text := func(field string) string {
		v, _ := m.Values[field].(string)
		return v
	}
	stamp, _, _ := strings.Cut(m.ID, "-")
	ms, err := strconv.ParseInt(stamp, 10, 64)
	if v := text("v"); v != strconv.Itoa(format) || err != nil {
		return AuditEntry{}, fmt.Errorf("%w: audit entry %s has format %q", ErrUnreadable, m.ID, v)
	}
	return AuditEntry{
		ID: m.ID, At: time.UnixMilli(ms).UTC(), Actor: text("actor"), Role: text("role"), RequestID: text("request"),
		Action: text("action"), Subject: text("subject"), Before: text("before"), After: text("after"),
	}, nil
}
