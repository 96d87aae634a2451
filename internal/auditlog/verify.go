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
	// Lines counts the lines read, First to Last are their numbers; 0 when there are none.
	Lines, First, Last int64
	// Faults are the first faults found; Wrong counts all.
	Faults []string
	Wrong  int64
	// Compared counts the entries in Redis that the lines were compared with.
	Compared int64
}

// faultsShown is how many faults are described.
const faultsShown = 20

func (f *Findings) addFault(format string, args ...any) {
	if f.Wrong++; len(f.Faults) < faultsShown {
		f.Faults = append(f.Faults, fmt.Sprintf(format, args...))
	}
}

// AuditReader reads what the lines must agree with; *registry.Store is one.
type AuditReader interface {
	LoopCursor(ctx context.Context, name string) (string, error)
	ReadNextAudit(ctx context.Context, p registry.AuditPlace) (registry.NextAuditEntries, error)
}

// VerifyLines checks that each line follows the one before, over all sources in any order. If with is not nil, it
// also checks that the lines agree with Redis.
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

// verifier checks lines in their order.
type verifier struct {
	*Findings
	// last is the place after the previous line, count the number of the last partners' entry.
	last  Place
	count int64
	// recent are the digests of the newest lines, to recognize lines that were written twice.
	recent map[int64]string
	// noted is the place recorded in Redis, oldest the oldest entry in Redis of each stream, entries the lines to
	// compare.
	noted                       Place
	oldestStaff, oldestPartners string
	entries                     map[string]string
	agrees                      bool
}

// recentLines is how many lines back a repeated line is recognized.
const recentLines = 4096

// readExpected reads the recorded place and the oldest entries in Redis. It does so before the lines are read, since
// lines are only added.
func (v *verifier) readExpected(ctx context.Context, with AuditReader) error {
	cursor, err := with.LoopCursor(ctx, LoopName)
	if err != nil {
		return err
	}
	v.noted, v.agrees, v.entries = ParsePlace(cursor), true, map[string]string{}
	// No operator's entry comes after this place, so the first one is the oldest of partners.
	first, err := with.ReadNextAudit(ctx, registry.AuditPlace{Staff: noEntryAfter})
	if err != nil {
		return err
	}
	if v.oldestStaff = first.OldestStaff; len(first.Entries) > 0 {
		v.oldestPartners = first.Entries[0].ID
	}
	return nil
}

// noEntryAfter is a place after all entries of a stream.
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
		return fmt.Errorf("%s:%d: the line is longer than any audit line", s.Name, at+1)
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
		v.addFault("%s: line %d comes after line %d, and differs from the one before with that number", where, l.N, v.last.N)
		return
	case l.N > v.last.N+1:
		v.addFault("%s: %d lines are missing before it, from %d on", where, l.N-1-v.last.N, v.last.N+1)
	case l.Previous != v.last.Digest:
		v.addFault("%s: line %d does not follow line %d: one of them was altered", where, l.N, v.last.N)
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

// rememberEntry keeps an entry that Redis must have as well.
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

// hashContent is the digest of a line without its place in the chain.
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

// compareEntries compares each entry in Redis that was written out.
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
		v.addFault("entry %s is in Redis, but in none of the lines", e.ID)
	case err != nil || had != hashContent(l):
		v.addFault("entry %s differs between Redis and the lines", e.ID)
	}
}
