package delivery

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/plainjson"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// payload is the stored form of a change. Tenant and sequence are in the entry.
//
// Format 2 holds the number in the change's id, from which the id follows with the tenant. It leaves out
// the time of acceptance when the number is that time. This saves a third of the memory of each pending
// notification. Format 1, which the registry stores, has both. It is also written for an id that is not
// made from the tenant.
type payload struct {
	Format   int    `json:"v"`
	ID       string `json:"i,omitempty"`
	Number   int64  `json:"q,omitempty"`
	Type     uint8  `json:"t"`
	Version  string `json:"n,omitempty"`
	File     string `json:"f,omitempty"`
	Endpoint string `json:"e,omitempty"`
	Accepted *int64 `json:"a,omitempty"`
	Occurred int64  `json:"o,omitempty"`
}

const (
	payloadWithID     = 1
	payloadWithNumber = 2
)

// EncodeChange writes a change as it is stored beside its tenant and sequence.
func EncodeChange(c tenant.Change) string {
	b := make([]byte, 0, 96+len(c.ID)+len(c.VersionName)+len(c.FileVersion)+len(c.PublicEndpoint))
	number := int64(0)
	if _, n, err := tenant.ParseChangeID(c.ID); err == nil && n > 0 && tenant.FormatChangeID(c.Tenant, n) == c.ID {
		number = n
		b = strconv.AppendInt(append(b, `{"v":2,"q":`...), n, 10)
	} else {
		b = plainjson.AppendString(append(b, `{"v":1,"i":`...), c.ID)
	}
	b = strconv.AppendInt(append(b, `,"t":`...), int64(c.Type), 10)
	for _, f := range [...]struct{ name, value string }{{`,"n":`, c.VersionName}, {`,"f":`, c.FileVersion}, {`,"e":`, c.PublicEndpoint}} {
		if f.value != "" {
			b = plainjson.AppendString(append(b, f.name...), f.value)
		}
	}
	if accepted := toMillis(c.AcceptedAt); accepted != number {
		b = strconv.AppendInt(append(b, `,"a":`...), accepted, 10)
	}
	if occurred := toMillis(c.OccurredAt); occurred != 0 {
		b = strconv.AppendInt(append(b, `,"o":`...), occurred, 10)
	}
	return string(append(b, '}'))
}

// toMillis is a time as stored, 0 for none.
func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// DecodeChange reads what EncodeChange wrote.
func DecodeChange(s string, t tenant.ID, sequence int64) (tenant.Change, error) {
	p, ok := scanPayload(s)
	if !ok {
		p = payload{}
		if err := json.Unmarshal([]byte(s), &p); err != nil {
			return tenant.Change{}, fmt.Errorf("%w: %w", ErrBadPayload, err)
		}
	}
	id, accepted := p.ID, int64(0)
	switch p.Format {
	case payloadWithID:
	case payloadWithNumber:
		if id = ""; p.Number > 0 {
			id, accepted = tenant.FormatChangeID(t, p.Number), p.Number
		}
	default:
		return tenant.Change{}, fmt.Errorf("%w: format %d, this version reads %d", ErrBadPayload, p.Format, payloadWithNumber)
	}
	ct := tenant.ChangeType(p.Type)
	if !ct.IsValid() || id == "" {
		return tenant.Change{}, fmt.Errorf("%w: no such change type or no id", ErrBadPayload)
	}
	c := tenant.Change{
		ID: id, Tenant: t, Type: ct, Sequence: sequence, VersionName: p.Version, FileVersion: p.File, PublicEndpoint: p.Endpoint,
	}
	if p.Accepted != nil {
		accepted = *p.Accepted
	}
	if accepted != 0 {
		c.AcceptedAt = time.UnixMilli(accepted).UTC()
	}
	if p.Occurred != 0 {
		c.OccurredAt = time.UnixMilli(p.Occurred).UTC()
	}
	return c, nil
}

// scanPayload reads the usual form: no white space, no escapes, only ASCII. ok is false for every other
// text, which the caller then gives to encoding/json. A drain decodes each notification once, and
// scanPayload takes a tenth of encoding/json's time.
func scanPayload(s string) (p payload, ok bool) {
	rest, ok := strings.CutPrefix(s, "{")
	for ok {
		var key, text string
		var number int64
		if key, rest, ok = scanText(rest); !ok {
			break
		}
		if rest, ok = strings.CutPrefix(rest, ":"); !ok {
			break
		}
		quoted := strings.HasPrefix(rest, `"`)
		if quoted {
			text, rest, ok = scanText(rest)
		} else {
			number, rest, ok = scanNumber(rest)
		}
		if !ok || !p.setMember(key, text, number, quoted) {
			break
		}
		if rest == "}" {
			return p, true
		}
		rest, ok = strings.CutPrefix(rest, ",")
	}
	return payload{}, false
}

func (p *payload) setMember(key, text string, number int64, quoted bool) bool {
	switch key {
	case "i":
		p.ID = text
	case "n":
		p.Version = text
	case "f":
		p.File = text
	case "e":
		p.Endpoint = text
	case "v":
		p.Format = int(number)
		return !quoted
	case "t":
		p.Type = uint8(number)
		return !quoted && number <= 255
	case "a":
		p.Accepted = &number
		return !quoted
	case "q":
		p.Number = number
		return !quoted
	case "o":
		p.Occurred = number
		return !quoted
	default:
		return false
	}
	return quoted
}

// scanText takes a quoted text of plain ASCII from the front.
func scanText(s string) (text, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", s, false
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[1:i], s[i+1:], true
		case c == '\\' || c < ' ' || c > '~':
			return "", s, false
		}
	}
	return "", s, false
}

// scanNumber takes a whole number without a sign from the front.
func scanNumber(s string) (n int64, rest string, ok bool) {
	i := 0
	for i < len(s) && i < 18 && s[i] >= '0' && s[i] <= '9' {
		n = n*10 + int64(s[i]-'0')
		i++
	}
	if i == 0 || i > 1 && s[0] == '0' {
		return 0, s, false
	}
	return n, s[i:], true
}
