package partner

import (
	"errors"
	"fmt"
)

// MaxClientIDLength is the longest client id accepted, in bytes.
const MaxClientIDLength = 64

// ErrInvalidClientID reports a malformed client id.
var ErrInvalidClientID = errors.New("invalid client id")

// ClientID names an app. It is part of Redis keys, so only ParseClientID makes one out of
// untrusted input.
type ClientID string

// ParseClientID accepts a letter or digit followed by at most 63 letters, digits, '_', '.' or '-'.
func ParseClientID(s string) (ClientID, error) {
	if s == "" {
		return "", fmt.Errorf("%w: empty", ErrInvalidClientID)
	}
	if len(s) > MaxClientIDLength {
		return "", fmt.Errorf("%w: longer than %d characters", ErrInvalidClientID, MaxClientIDLength)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '-' || c == '.'):
		default:
			return "", fmt.Errorf("%w: must start with a letter or digit and hold only letters, digits, '_', '.' and '-'", ErrInvalidClientID)
		}
	}
	return ClientID(s), nil
}

// String returns the id.
func (id ClientID) String() string { return string(id) }
