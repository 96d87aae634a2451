// Package plainjson appends JSON strings to a buffer. Plain ASCII strings, which most are, are copied. All others are
// encoded by encoding/json, so the bytes are always those of encoding/json.
package plainjson

import (
	"bytes"
	"encoding/json"
)

// AppendString appends s as a JSON string, without the escapes that only HTML needs. Invalid UTF-8
// becomes U+FFFD.
func AppendString(b []byte, s string) []byte {
	if !isPlain(s) {
		return appendEscaped(b, s)
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// isPlain reports whether s needs no escapes.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func appendEscaped(b []byte, s string) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		panic("plainjson: " + err.Error())
	}
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}
