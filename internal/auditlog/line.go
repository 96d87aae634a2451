package auditlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// Line is an audit entry in the format of the lines.
type Line struct {
	// N counts the lines of all writers, from 1.
	N int64 `json:"n"`
	// Previous is the SHA-256 of the line before without its line break, in hex; noLine for the first.
	Previous string `json:"previous"`
	ID       string `json:"id"`
	// Number counts partners' entries, each one more than the partners' entry before; absent for other entries.
	Number    int64           `json:"number,omitempty"`
	At        time.Time       `json:"at"`
	Actor     string          `json:"actor"`
	Role      string          `json:"role"`
	RequestID string          `json:"request_id,omitempty"`
	Action    string          `json:"action"`
	Subject   string          `json:"subject"`
	Before    json.RawMessage `json:"before,omitempty"`
	After     json.RawMessage `json:"after,omitempty"`
}

// noLine stands in for the digest before the first line.
var noLine = strings.Repeat("0", 2*sha256.Size)

// maxLine limits a line that is read: an entry has up to registry.AuditEntryMax, and escapes may make it longer.
const maxLine = 64 << 10

func hashLine(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// encodeLine encodes the line without its line break.
func encodeLine(n int64, previous string, e registry.AuditEntry, number int64) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(Line{
		N: n, Previous: previous, ID: e.ID, Number: number, At: e.At.UTC(), Actor: e.Actor, Role: e.Role, RequestID: e.RequestID,
		Action: e.Action, Subject: e.Subject, Before: registry.EncodeAuditValue(e.Before), After: registry.EncodeAuditValue(e.After),
	})
	if err != nil {
		return nil, fmt.Errorf("write audit entry %s as a line: %w", e.ID, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

var errLine = errors.New("it is no line of the audit")

func parseLine(text []byte) (Line, error) {
	var l Line
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil || d.More() || l.N < 1 || len(l.Previous) != len(noLine) || l.ID == "" {
		return Line{}, errLine
	}
	return l, nil
}

// Place is a position in the lines.
type Place struct {
	// N and Digest are those of the last line; 0 and noLine before the first.
	N      int64
	Digest string
	registry.AuditPlace
}

// String is the place in the format of the loop's cursor.
func (p Place) String() string {
	return strings.Join([]string{"1", strconv.FormatInt(p.N, 10), p.Digest, dashIfEmpty(p.Staff), dashIfEmpty(p.Partners), strconv.FormatInt(p.Count, 10)}, " ")
}

func dashIfEmpty(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ParsePlace reads the format of String; anything else is the start.
func ParsePlace(s string) Place {
	start := Place{Digest: noLine}
	f := strings.Fields(s)
	if len(f) != 6 || f[0] != "1" || len(f[2]) != len(noLine) {
		return start
	}
	n, err1 := strconv.ParseInt(f[1], 10, 64)
	count, err2 := strconv.ParseInt(f[5], 10, 64)
	if err1 != nil || err2 != nil || n < 0 {
		return start
	}
	p := Place{N: n, Digest: f[2]}
	p.Staff, p.Partners, p.Count = strings.Trim(f[3], "-"), strings.Trim(f[4], "-"), count
	return p
}

// advancePast returns the place after a line.
func (p Place) advancePast(l Line, text []byte) Place {
	p.N, p.Digest = l.N, hashLine(text)
	p.AuditPlace = p.After(l.ID, l.Number)
	return p
}
