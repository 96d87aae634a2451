package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Mask is what stands in the place of every hidden value.
const Mask = "[redacted]"

// ErrMasked reports that Mask itself was given as a secret. This happens when a tool's output is used as input.
// Storing it would replace a working secret by a placeholder.
var ErrMasked = errors.New("the value is the placeholder " + Mask + ", not a secret: give the real value or leave it out")

// Text is a string that never prints: every formatting verb, slog, JSON and text encoding show Mask, also for the
// empty Text. Only Reveal returns the value, so that uses can be found by searching for it.
//
// The value sits behind a pointer because fmt cannot call methods of
// unexported fields: a struct that holds a Text in one then prints an address,
// not the value. Text cannot be compared with ==; use Equal. The zero value is
// the empty Text.
type Text struct {
	_     [0]func()
	value *string
}

// New hides s. New("") is the zero Text.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{value: &s}
}

// Reveal returns the hidden value. The result must not reach logs, errors,
// metrics or answers.
func (t Text) Reveal() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// IsZero reports whether the value is empty.
func (t Text) IsZero() bool { return t.value == nil || *t.value == "" }

// Equal compares two values in a time that depends only on their lengths.
func (t Text) Equal(other Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(other.Reveal())) == 1
}

// String returns Mask.
func (Text) String() string { return Mask }

// GoString returns Mask.
func (Text) GoString() string { return Mask }

// Format writes Mask, whatever the verb.
func (Text) Format(f fmt.State, _ rune) { writeMask(f) }

// LogValue returns Mask.
func (Text) LogValue() slog.Value { return slog.StringValue(Mask) }

// MarshalText returns Mask.
func (Text) MarshalText() ([]byte, error) { return []byte(Mask), nil }

// MarshalJSON returns Mask as a JSON string.
func (Text) MarshalJSON() ([]byte, error) { return []byte(`"` + Mask + `"`), nil }

// UnmarshalText takes the value from a settings file or a request. It refuses
// Mask with ErrMasked.
func (t *Text) UnmarshalText(text []byte) error {
	if string(text) == Mask {
		return ErrMasked
	}
	*t = New(string(text))
	return nil
}

// writeMask ignores the error as fmt offers no way to report it.
func writeMask(w io.Writer) { _, _ = io.WriteString(w, Mask) }
