package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
)

// AuditPlace is a place in the audit, in both streams of writes. Its zero value is the start.
type AuditPlace struct {
	// Staff and Partners are the last entries that were read, without the mark of their stream.
	Staff, Partners string
	// Count is the number of the last entry of partners, 0 when unknown.
	Count int64
}

// NextAuditEntries is the result of ReadNextAudit.
type NextAuditEntries struct {
	// Entries are ordered by their time.
	Entries []AuditEntry
	// Numbers are the numbers of partners' entries, at the same index as in Entries; 0 for others.
	Numbers []int64
	// OldestStaff is the oldest stored entry of staff, tokens and the service, empty for none.
	OldestStaff string
	// More is true if there are more entries already.
	More bool
}

// auditNextMost is how many entries of each stream one read returns; entries of older versions may be long.
const auditNextMost = 16

// ReadNextAudit reads the entries that come after a place. Errors: ErrUnreadable.
func (s *Store) ReadNextAudit(ctx context.Context, p AuditPlace) (NextAuditEntries, error) {
	ks := s.configKeys(keys.ConfigAudit, keys.ConfigAuditPartners)
	v, err := auditNext.run(ctx, s.rdb, ks, startIfEmpty(p.Staff), startIfEmpty(p.Partners), auditNextMost).Slice()
	if err != nil {
		return NextAuditEntries{}, wrapError(err, "read the audit's next entries")
	}
	if len(v) != 3 {
		return NextAuditEntries{}, fmt.Errorf("read the audit's next entries: %w", newAnswerError(auditNext, v))
	}
	var out NextAuditEntries
	out.OldestStaff, _ = v[0].(string)
	staff, err1 := decodeStreamMessages(v[1])
	partners, err2 := decodeStreamMessages(v[2])
	if err := errors.Join(err1, err2); err != nil {
		return NextAuditEntries{}, err
	}
	// If one stream was read in part, later entries of the other stream wait, because entries are written out by their time.
	for len(staff)+len(partners) > 0 {
		ofPartner := len(staff) == 0 || len(partners) > 0 && IsAuditIDBefore(partners[0].ID, staff[0].ID)
		from, full := &staff, len(staff) == 1
		if ofPartner {
			from, full = &partners, len(partners) == 1
		}
		m := (*from)[0]
		*from = (*from)[1:]
		e, err := decodeAuditEntry(m)
		if err != nil {
			return NextAuditEntries{}, err
		}
		number := int64(0)
		if ofPartner {
			e.ID += partnersMark
			text, _ := m.Values["n"].(string)
			number, _ = strconv.ParseInt(text, 10, 64)
		}
		out.Entries, out.Numbers = append(out.Entries, e), append(out.Numbers, number)
		list, _ := v[1].([]any)
		if ofPartner {
			list, _ = v[2].([]any)
		}
		if full && len(list) == auditNextMost {
			out.More = true
			break
		}
	}
	return out, nil
}

func startIfEmpty(id string) string {
	if id == "" {
		return "0-0"
	}
	return id
}

func decodeStreamMessages(v any) ([]redis.XMessage, error) {
	list, _ := v.([]any)
	out := make([]redis.XMessage, 0, len(list))
	for _, one := range list {
		m, ok := decodeStreamMessage(one)
		if !ok {
			return nil, fmt.Errorf("read the audit's next entries: %w", newAnswerError(auditNext, v))
		}
		out = append(out, m)
	}
	return out, nil
}

// After returns the place behind an entry. number is the number of a partner's entry, otherwise 0.
func (p AuditPlace) After(id string, number int64) AuditPlace {
	if ours, ok := strings.CutSuffix(id, partnersMark); ok {
		p.Partners, p.Count = ours, number
	} else {
		p.Staff = id
	}
	return p
}

// IsPartnerAuditID reports whether an entry's ID is one of the partners' stream.
func IsPartnerAuditID(id string) bool { return strings.HasSuffix(id, partnersMark) }

// IsAuditIDBefore reports whether an entry is older than another, by their IDs.
func IsAuditIDBefore(a, b string) bool {
	ms, seq := parseAuditStamp(a)
	otherMS, otherSeq := parseAuditStamp(b)
	return ms < otherMS || ms == otherMS && seq < otherSeq
}

func parseAuditStamp(id string) (ms, seq int64) {
	first, second, _ := strings.Cut(strings.TrimSuffix(id, partnersMark), "-")
	ms, _ = strconv.ParseInt(first, 10, 64)
	seq, _ = strconv.ParseInt(second, 10, 64)
	return ms, seq
}

// LoopCursor returns where a loop continues, without taking its lease; empty if it never ran.
func (s *Store) LoopCursor(ctx context.Context, name string) (string, error) {
	cursor, err := s.rdb.HGet(ctx, s.keys.Config(keys.ConfigLoops)+":"+name, "cursor").Result()
	if isRedisNil(err) {
		return "", nil
	}
	return cursor, wrapError(err, "read the place of the loop %s", name)
}
