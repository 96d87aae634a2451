package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// Limits of an audit entry in bytes. With its other fields, an entry takes AuditEntryMax at most.
const (
	AuditEntryMax = 4096
	// auditSideMax bounds Before and After, each; auditTextMax a text within them.
	auditSideMax = 1400
	auditTextMax = 256
	// auditWordMax bounds texts that callers choose: a token's name, a request's id, a subject.
	auditWordMax = 800
)

// auditDigest replaces a text that is too long for the audit: a reader who has the text can verify that it is the same.
type auditDigest struct {
	SHA256 string `json:"sha256"`
	Bytes  int    `json:"bytes"`
}

func newAuditDigest(text string) auditDigest {
	sum := sha256.Sum256([]byte(text))
	return auditDigest{SHA256: hex.EncodeToString(sum[:]), Bytes: len(text)}
}

// redactedCopy returns an entry as it is stored and shown: texts of callers are shortened, and the queries of URLs are hidden.
func (e AuditEntry) redactedCopy() AuditEntry {
	e.Actor, e.RequestID, e.Subject = truncateName(e.Actor), truncateName(e.RequestID), truncateName(e.Subject)
	if isAppDocument(e.Before) && isAppDocument(e.After) { // of a version that stored both documents completely
		e.Before, e.After = diffAppDocuments(e.Before, e.After)
		return e
	}
	e.Before, e.After = shortenAuditDocument(e.Before), shortenAuditDocument(e.After)
	return e
}

func truncateName(s string) string {
	if len(s) <= auditWordMax {
		return s
	}
	return strings.ToValidUTF8(s[:auditWordMax], "")
}

// shortenAuditDocument shortens a document for the audit. A text that is no JSON was written by the service itself.
func shortenAuditDocument(text string) string {
	if text == "" {
		return ""
	}
	v, ok := decodeDocument(text)
	if !ok {
		if text = secret.RedactText(text); len(text) > auditSideMax {
			return encodeDocument(newAuditDigest(text))
		}
		return text
	}
	if len(text) <= auditSideMax && reflect.DeepEqual(redactDocument(v), v) {
		return text
	}
	return fitDocument(v)
}

func isAppDocument(text string) bool { return strings.HasPrefix(text, `{"v":1,"client_id":`) }

// diffAppDocuments returns what differs between two documents of an app, as the audit shows it. Either may be empty. A member
// that one of them lacks is left out there. The time of the write is left out, since the entry has it.
func diffAppDocuments(before, after string) (b, a string) {
	was, is := splitMembers(before), splitMembers(after)
	for k, text := range was { // decoding the whole document is what a write costs most
		if bytes.Equal(text, is[k]) {
			delete(was, k)
			delete(is, k)
		}
	}
	old, current := decodeAppMembers(was), decodeAppMembers(is)
	if before != "" && after != "" {
		old, current = diffMembers(old, current)
	}
	if before != "" {
		b = fitDocument(old)
	}
	if after != "" {
		a = fitDocument(current)
	}
	return b, a
}

// splitMembers returns the members of a stored app, not yet decoded. The version and the time of the write are left out.
func splitMembers(text string) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if text == "" || json.Unmarshal([]byte(text), &m) != nil {
		return nil
	}
	delete(m, "v")
	delete(m, "updated_at")
	return m
}

// decodeAppMembers decodes members of a stored app, with the endpoints by their names.
func decodeAppMembers(members map[string]json.RawMessage) map[string]any {
	m := make(map[string]any, len(members))
	for k, text := range members {
		m[k], _ = decodeDocument(string(text))
	}
	if list, ok := m["endpoints"].([]any); ok {
		named := map[string]any{}
		for _, k := range partner.AllEndpointKinds() {
			if int(k) < len(list) {
				named[k.String()] = list[k]
			}
		}
		m["endpoints"] = named
	}
	return m
}

// diffMembers keeps the members that differ.
func diffMembers(was, is map[string]any) (b, a map[string]any) {
	b, a = map[string]any{}, map[string]any{}
	for _, k := range slices.Sorted(maps.Keys(was)) {
		x, y := was[k], is[k]
		if reflect.DeepEqual(x, y) {
			continue
		}
		inner, ok1 := x.(map[string]any)
		other, ok2 := y.(map[string]any)
		if ok1 && ok2 {
			b[k], a[k] = diffMembers(inner, other)
			continue
		}
		b[k] = x
		if _, there := is[k]; there {
			a[k] = y
		}
	}
	for k, y := range is {
		if _, there := was[k]; !there {
			a[k] = y
		}
	}
	return b, a
}

// fitDocument encodes a document in at most auditSideMax bytes. Long texts are replaced by digests, then the longest members,
// then the whole document.
func fitDocument(v any) string {
	v = redactDocument(v)
	text := encodeDocument(v)
	m, ok := v.(map[string]any)
	for ok && len(text) > auditSideMax {
		longest, size := "", 0
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if _, done := m[k].(auditDigest); done {
				continue
			}
			if n := len(encodeDocument(m[k])); n > size {
				longest, size = k, n
			}
		}
		if size == 0 {
			break
		}
		m[longest] = newAuditDigest(encodeDocument(m[longest]))
		text = encodeDocument(m)
	}
	if len(text) > auditSideMax {
		text = encodeDocument(newAuditDigest(text))
	}
	return text
}

// redactDocument hides the queries of URLs, and replaces long texts by digests.
func redactDocument(v any) any {
	switch v := v.(type) {
	case string:
		text := secret.RedactText(v)
		if len(text) > auditTextMax {
			return newAuditDigest(text)
		}
		return text
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = redactDocument(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[boundMemberName(k)] = redactDocument(v[k])
		}
		return out
	default:
		return v
	}
}

// boundMemberName returns the name of a member, which may be an address. A long name is replaced by its digest.
func boundMemberName(k string) string {
	if len(k) > auditTextMax {
		return newAuditDigest(k).SHA256
	}
	return k
}

func decodeDocument(text string) (v any, ok bool) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil || d.More() {
		return nil, false
	}
	return v, true
}

// encodeDocument encodes JSON as short as possible: HTML characters are not escaped.
func encodeDocument(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // a decoded document can be encoded
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// EncodeAuditValue converts a stored before or after to a JSON value: a text that is not JSON becomes a string.
func EncodeAuditValue(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	b, err := json.Marshal(text)
	if err != nil { // a string always marshals
		return nil
	}
	return b
}
