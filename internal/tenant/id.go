package tenant

import (
	"errors"
	"fmt"
)

// MaxIDLength is the longest tenant id accepted, in bytes.
const MaxIDLength = 64

// ErrInvalidID reports a malformed tenant id.
var ErrInvalidID = errors.New("invalid tenant id")

// ID is a tenant's context identifier, for example "Cust12345". It is part of Redis keys, so untrusted input must go
// through ParseID.
type ID string

// ParseID accepts a letter or digit followed by at most 63 letters, digits, '_' or '-'.
func ParseID(s string) (ID, error) {
	if s == "" {
		return "", fmt.Errorf("%w: empty", ErrInvalidID)
	}
	if len(s) > MaxIDLength {
		return "", fmt.Errorf("%w: longer than %d characters", ErrInvalidID, MaxIDLength)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '-'):
		default:
			return "", fmt.Errorf("%w: must start with a letter or digit and hold only letters, digits, '_' and '-'", ErrInvalidID)
		}
	}
	return ID(s), nil
}

// String returns the id in its wire format.
func (id ID) String() string { return string(id) }
