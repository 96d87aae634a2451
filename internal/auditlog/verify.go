package auditlog

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// Source is a file of lines.
type Source struct {
	Name string
	Open func() (io.ReadCloser, error)
}

// Findings is what a check found.
type Findings struct {
	// Lines counts those that were read, of which First to Last are the numbers; 0 when there is none.
	Lines, First, Last int64
	// Faults are what is wrong, the first of them; Wrong counts all.
	Faults []string
	Wrong  int64
	// Compared counts the entries that Redis holds and the lines were compared with.
	Compared int64
}

// faultsShown is how many faults are described.
const faultsShown = 20

func (f *Findings) addFault(format string, args ...any) {
	if f.Wrong++; len(f.Faults) < faultsShown {
		f.Faults = append(f.Faults, fmt.Sprintf(format, args...))
	}
}

// AuditReader reads what the lines have to agree with; *registry.Store is one.
type AuditReader interface {
	LoopCursor(ctx context.Context, name string) (string, error)
	ReadNextAudit(ctx context.Context, p registry.AuditPlace) (registry.NextAuditEntries, error)
}

// VerifyLines checks that each line follows the one before, over all sources, whose order does not matter; and, where
// with is not nil, that the lines agree with what Redis holds.
func VerifyLines(ctx context.Context, sources []Source, with AuditReader) (*Findings, error) {
	v := &verifier{Findings: &Findings{}, recent: map[int64]string{}}
	if with != nil {
		if err := v.readExpected(ctx, with); err != nil {
			return nil, err
		}
	}
	if err := v.checkSources(sources); err != nil {
		return nil, err
	}
	if with != nil {
		if err := v.compareEntries(ctx, with); err != nil {
			return nil, err
		}
	}
	return v.Findings, nil
}

// verifier goes through lines in their order.
type verifier struct {
	*Findings
	// last is the place behind the line before, count the number of the last partners' entry.
	last  Place
	count int64
	// recent are the digests of the newest lines, for those that were written twice.
	recent map[int64]string
	// noted is the place that Redis keeps, oldest what Redis has of each stream, entries the lines that may be there.
	noted                       Place
	oldestStaff, oldestPartners string
	entries                     map[string]string
	agrees                      bool
}

// recentLines is how many lines back one may be written again.
const recentLines = 4096

// readExpected reads how far the lines go and what Redis still holds, before the lines are read: they can only become more.
func (v *verifier) readExpected(ctx context.Context, with AuditReader) error {
	cursor, err := with.LoopCursor(ctx, LoopName)
	if err != nil {
		return err
	}
	v.noted, v.agrees, v.entries = ParsePlace(cursor), true, map[string]string{}
	// No entry of staff comes after this place, so the first one is the oldest of partners.
	first, err := with.ReadNextAudit(ctx, registry.AuditPlace{Staff: noEntryAfter})
	if err != nil {
		return err
	}
	if v.oldestStaff = first.OldestStaff; len(first.Entries) > 0 {
		v.oldestPartners = first.Entries[0].ID
	}
	return nil
}

// noEntryAfter is a place behind all entries of a stream.
const noEntryAfter = "9999999999999999-0"

func (v *verifier) checkSources(sources []Source) error {
	type begun struct {
		Source
		n int64
	}
	var in []begun
	for _, s := range sources {
		n := int64(0)
		err := scanLines(s, func(_ int64, text []byte) bool {
			if l, err := parseLine(text); err == nil {
				n = l.N
			}
			return n == 0
		})
		if err != nil {
			return err
		}
		in = append(in, begun{s, n})
	}
	slices.SortStableFunc(in, func(a, b begun) int { return cmp.Compare(a.n, b.n) })
	for _, s := range in {
		err := scanLines(s.Source, func(at int64, text []byte) bool {
			v.checkLine(fmt.Sprintf("%s:%d", s.Name, at), text)
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func scanLines(s Source, f func(at int64, text []byte) bool) error {
	r, err := s.Open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	at := int64(0)
	for lines.Scan() {
		if at++; !f(at, lines.Bytes()) {
			return nil
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("%s:%d: the line is longer than any of the audit", s.Name, at+1)
	}
	return lines.Err()
}

// checkLine checks one line against the one before.
func (v *verifier) checkLine(where string, text []byte) {
	l, err := parseLine(text)
	if err != nil {
		v.addFault("%s: %v", where, err)
		return
	}
	sum := hashLine(text)
	if known, again := v.recent[l.N]; again && known == sum {
		return // it was written twice
	}
	switch {
	case v.Lines == 0:
		v.First = l.N
		if l.N == 1 && l.Previous != noLine {
			v.addFault("%s: it is the first line, and names one before it", where)
		}
	case l.N <= v.last.N:
		v.addFault("%s: line %d comes after line %d, and is another one than was there", where, l.N, v.last.N)
		return
	case l.N > v.last.N+1:
		v.addFault("%s: %d lines are missing before it, from %d on", where, l.N-1-v.last.N, v.last.N+1)
	case l.Previous != v.last.Digest:
		v.addFault("%s: line %d does not follow line %d as that stands there: one of them was altered", where, l.N, v.last.N)
	}
	if l.Number > 0 {
		if v.count > 0 && l.Number > v.count+1 {
			v.addFault("%s: %d entries of partners were gone before they could be written out", where, l.Number-v.count-1)
		}
		v.count = l.Number
	}
	v.Lines, v.Last = v.Lines+1, l.N
	v.last = v.last.advancePast(l, text)
	v.recent[l.N] = sum
	delete(v.recent, l.N-recentLines)
	v.rememberEntry(where, l)
}

// rememberEntry remembers what Redis has to hold as well.
func (v *verifier) rememberEntry(where string, l Line) {
	if !v.agrees {
		return
	}
	if l.N == v.noted.N && v.last.Digest != v.noted.Digest {
		v.addFault("%s: line %d is not the one that Redis knows", where, l.N)
	}
	oldest := v.oldestStaff
	if registry.IsPartnerAuditID(l.ID) {
		oldest = v.oldestPartners
	}
	if oldest != "" && !registry.IsAuditIDBefore(l.ID, oldest) {
		v.entries[l.ID] = hashContent(l)
	}
}

// hashContent is what a line says, without its place in the chain.
func hashContent(l Line) string {
	l.N, l.Previous, l.Number = 1, noLine, 0
	text, err := encodeLine(1, noLine, registry.AuditEntry{
		ID: l.ID, At: l.At, Actor: l.Actor, Role: l.Role, RequestID: l.RequestID, Action: l.Action, Subject: l.Subject,
		Before: string(l.Before), After: string(l.After),
	}, 0)
	if err != nil {
		return ""
	}
	return hashLine(text)
}

// compareEntries looks at each entry that Redis holds and that was written out.
func (v *verifier) compareEntries(ctx context.Context, with AuditReader) error {
	if v.noted.N > v.Last {
		v.addFault("Redis knows of %d lines, and %d is the last one here: the rest is elsewhere, or was cut off", v.noted.N, v.Last)
	}
	if v.noted.N > 0 && v.Lines > 0 && v.noted.N < v.First {
		v.addFault("Redis knows of %d lines, and line %d is the first one here", v.noted.N, v.First)
	}
	seen := map[string]bool{}
	for p := (registry.AuditPlace{}); ; {
		next, err := with.ReadNextAudit(ctx, p)
		if err != nil {
			return err
		}
		for i, e := range next.Entries {
			p = p.After(e.ID, next.Numbers[i])
			v.compareEntry(e, seen)
		}
		if !next.More {
			break
		}
	}
	for id := range v.entries {
		if !seen[id] && !registry.IsPartnerAuditID(id) {
			v.addFault("entry %s was written out, and is gone from Redis, which has older ones", id)
		}
	}
	return nil
}

func (v *verifier) compareEntry(e registry.AuditEntry, seen map[string]bool) {
	end := v.noted.Staff
	if registry.IsPartnerAuditID(e.ID) {
		end = v.noted.Partners
	}
	text, err := encodeLine(1, noLine, e, 0)
	if err != nil || end == "" || registry.IsAuditIDBefore(end, e.ID) {
		return // it is newer than what was written out
	}
	seen[e.ID] = true
	had, ok := v.entries[e.ID]
	v.Compared++
	l, err := parseLine(text)
	switch {
	case !ok:
		v.addFault("entry %s is in Redis, and in none of the lines", e.ID)
	case err != nil || had != hashContent(l):
		v.addFault("entry %s is another one in Redis than in the lines", e.ID)
	}
}
