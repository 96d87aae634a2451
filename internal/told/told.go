package told

import (
	"encoding/json"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// Cause is a row of the table, as operators see it. The zero Cause is none.
type Cause struct{ row uint8 }

// FindCause finds a cause by its name, which may come from any source. A name that is not in the table gives the
// cause "unknown", and an empty one the zero Cause.
func FindCause(name string) Cause {
	for i := range table {
		if table[i].name == name {
			return Cause{uint8(i)}
		}
	}
	return FindCause(unknown)
}

// AllCauses lists the closed set, without the zero Cause.
func AllCauses() []Cause {
	out := make([]Cause, 0, len(table)-1)
	for i := 1; i < len(table); i++ {
		out = append(out, Cause{uint8(i)})
	}
	return out
}

// String is the cause's name, empty for the zero Cause.
func (c Cause) String() string { return table[c.row].name }

// Description says what happened. It calls the endpoint "it" and has no full stop at its end.
func (c Cause) Description(k partner.EndpointKind) string {
	if r := &table[c.row]; k != partner.StateChange && r.callDescription != "" {
		return r.callDescription
	}
	return table[c.row].description
}

// Advice says what to do, in sentences; it is empty when nothing needs to be done.
func (c Cause) Advice(k partner.EndpointKind) string {
	if r := &table[c.row]; k != partner.StateChange && r.callAdvice != "" {
		return r.callAdvice
	}
	return table[c.row].advice
}

// Equal reports whether both are the same.
func (c Cause) Equal(other Cause) bool { return c == other }

// IsZero reports whether there is no cause.
func (c Cause) IsZero() bool { return c.row == 0 }

// PublicReason is the reason that partners and recipients of mail are shown for the cause.
func (c Cause) PublicReason() Reason {
	switch c.String() {
	case doesNotExist, isInside:
		return Reason{FindCause(unreachable)}
	default:
		return Reason{c}
	}
}

// InfoFor is the cause for operators and admins.
func (c Cause) InfoFor(k partner.EndpointKind) FailureInfo {
	return FailureInfo{Text{c.String()}, Text{c.Description(k)}, Text{c.Advice(k)}}
}

// Reason is what partners and recipients of mail are shown. The zero Reason is none.
type Reason struct{ cause Cause }

// UnreachableReason is the reason of a name that does not exist or leads to no address that may be called.
func UnreachableReason() Reason { return Reason{FindCause(unreachable)} }

// String is the reason's name, a word of the API.
func (r Reason) String() string { return r.cause.String() }

// Description says what happened. It calls the endpoint "it" and has no full stop at its end.
func (r Reason) Description(k partner.EndpointKind) Text { return Text{r.cause.Description(k)} }

// Advice says what to do, in sentences; it is empty when nothing needs to be done.
func (r Reason) Advice(k partner.EndpointKind) Text { return Text{r.cause.Advice(k)} }

// IsZero reports whether there is no reason.
func (r Reason) IsZero() bool { return r.cause.IsZero() }

// InfoFor is the reason for every caller.
func (r Reason) InfoFor(k partner.EndpointKind) FailureInfo { return r.cause.InfoFor(k) }

// FailureInfo is what an answer of the API says about a failure.
type FailureInfo struct {
	// Reason is the name, for programs.
	Reason      Text `json:"reason,omitzero" api:"ref=Reason"`
	Description Text `json:"words,omitzero" api:"ref=Words"`
	Advice      Text `json:"advice,omitzero" api:"ref=Advice"`
}

// Text is a text out of the table.
type Text struct{ text string }

// String is the text itself.
func (t Text) String() string { return t.text }

// IsZero reports whether the text is empty.
func (t Text) IsZero() bool { return t.text == "" }

// MarshalJSON writes the text.
func (t Text) MarshalJSON() ([]byte, error) { return json.Marshal(t.text) }
