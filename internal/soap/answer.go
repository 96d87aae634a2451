package soap

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits on an answer. The answers that probes ask for have about a thousand bytes and five levels.
const (
	// MaxAnswer is the longest answer that is read, in bytes.
	MaxAnswer = 64 << 10
	maxDepth  = 32
)

// Errors of ReadAnswer. Each says what the answer is instead of SOAP 1.1.
var (
	// ErrTooLarge: longer than MaxAnswer.
	ErrTooLarge = errors.New("the answer is too large")
	// ErrHTML: a web page, such as the help page of a service or the error page of a proxy.
	ErrHTML = errors.New("the answer is a web page")
	// ErrSOAP12: an envelope of SOAP 1.2.
	ErrSOAP12 = errors.New("the answer is in SOAP 1.2")
	// ErrUnsafe: XML that SOAP forbids or that only an attacker writes. It was not parsed further.
	ErrUnsafe = errors.New("the answer holds XML that is refused")
	// ErrNotSOAP: anything else.
	ErrNotSOAP = errors.New("the answer is not SOAP")
)

const (
	namespace12 = "http://www.w3.org/2003/05/soap-envelope"
	// htmlWithin is how much of an answer is searched for the beginning of a web page.
	htmlWithin = 1 << 10
)

// Answer is a SOAP 1.1 answer.
type Answer struct {
	// Fault is set when the service answered with one.
	Fault *Fault
	// Name is the element in the Body, zero when the Body is empty.
	Name xml.Name
	// Members are the texts of that element's children which are of its namespace or of none.
	Members map[string]string
}

// Fault is a SOAP Fault. Both texts are the service's own.
type Fault struct{ Code, Text string }

// ReadAnswer reads an answer with the given content type of its header. Its errors are those above and ErrUnreadable.
// They contain nothing of the answer.
func ReadAnswer(contentType string, b []byte) (Answer, error) {
	if len(b) > MaxAnswer {
		return Answer{}, ErrTooLarge
	}
	if isHTMLPage(b) { // the markers are ASCII in every encoding
		return Answer{}, ErrHTML
	}
	b, err := ToUTF8(contentType, b)
	if err != nil {
		return Answer{}, err
	}
	if b = bytes.TrimSpace(b); isHTMLPage(b) {
		return Answer{}, ErrHTML
	}
	if hasDeclaration(b) {
		return Answer{}, fmt.Errorf("%w: it declares a document type or entities", ErrUnsafe)
	}
	r := &reader{d: xml.NewDecoder(bytes.NewReader(b))}
	r.d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // it is UTF-8 by now
	if err := r.readEnvelope(); err != nil {
		return Answer{}, err
	}
	return r.answer, nil
}

// isHTMLPage reports whether a text begins as a web page does.
func isHTMLPage(b []byte) bool {
	head := strings.ToLower(string(bytes.TrimSpace(b[:min(len(b), htmlWithin)])))
	return strings.HasPrefix(head, "<html") || strings.Contains(head, "<!doctype html")
}

// hasDeclaration reports whether b has a markup declaration: anything that begins with "<!" and is neither a comment
// nor a CDATA section. One inside of those counts too, because no service needs it there.
func hasDeclaration(b []byte) bool {
	for {
		_, after, found := bytes.Cut(b, []byte("<!"))
		if !found {
			return false
		}
		if !bytes.HasPrefix(after, []byte("--")) && !bytes.HasPrefix(after, []byte("[CDATA[")) {
			return true
		}
		b = after
	}
}

// reader walks the tokens of one answer; it never builds a tree.
type reader struct {
	d      *xml.Decoder
	depth  int
	answer Answer
}

// next returns the next start or end of an element, or text.
func (r *reader) next() (xml.Token, error) {
	for {
		t, err := r.d.Token()
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		if err != nil {
			return nil, fmt.Errorf("%w: it is not well-formed XML", ErrNotSOAP)
		}
		switch t := t.(type) {
		case xml.StartElement:
			if r.depth++; r.depth > maxDepth {
				return nil, fmt.Errorf("%w: its elements are nested too deeply", ErrUnsafe)
			}
			return t, nil
		case xml.EndElement:
			r.depth--
			return t, nil
		case xml.CharData:
			return t, nil
		case xml.ProcInst:
			if t.Target != "xml" {
				return nil, fmt.Errorf("%w: it holds a processing instruction", ErrUnsafe)
			}
		case xml.Directive:
			return nil, fmt.Errorf("%w: it holds a declaration", ErrUnsafe)
		}
	}
}

// nextChild returns the next element within the current one, nil at its end. Text between elements is skipped.
func (r *reader) nextChild() (*xml.StartElement, error) {
	for {
		t, err := r.next()
		if err != nil {
			return nil, rejectEOF(err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			return &t, nil
		case xml.EndElement:
			return nil, nil
		}
	}
}

func rejectEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends too early", ErrNotSOAP)
	}
	return err
}

// readText reads to the end of the current element and returns its own text, without that of elements inside.
func (r *reader) readText() (string, error) {
	var b strings.Builder
	for level := 1; level > 0; {
		t, err := r.next()
		if err != nil {
			return "", rejectEOF(err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			level++
		case xml.EndElement:
			level--
		case xml.CharData:
			if level == 1 {
				b.Write(t)
			}
		}
	}
	return strings.TrimSpace(b.String()), nil
}

// readEnvelope reads the whole answer.
func (r *reader) readEnvelope() error {
	root, err := r.nextChild()
	if err != nil {
		return err
	}
	switch {
	case root == nil:
		return ErrNotSOAP
	case root.Name == xml.Name{Space: namespace12, Local: "Envelope"}:
		return ErrSOAP12
	case strings.EqualFold(root.Name.Local, "html"):
		return ErrHTML
	case root.Name != xml.Name{Space: Namespace, Local: "Envelope"}:
		return fmt.Errorf("%w: it is other XML", ErrNotSOAP)
	}
	bodies := 0
	for {
		e, err := r.nextChild()
		if err != nil {
			return err
		}
		if e == nil {
			break
		}
		if e.Name != (xml.Name{Space: Namespace, Local: "Body"}) {
			if _, err := r.readText(); err != nil { // a Header
				return err
			}
			continue
		}
		if bodies++; bodies > 1 {
			return fmt.Errorf("%w: it has two Bodies", ErrNotSOAP)
		}
		if err := r.readBody(); err != nil {
			return err
		}
	}
	if bodies == 0 {
		return fmt.Errorf("%w: it has no Body", ErrNotSOAP)
	}
	return r.expectEnd()
}

// expectEnd returns an error if anything follows the envelope.
func (r *reader) expectEnd() error {
	for {
		t, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if text, ok := t.(xml.CharData); !ok || len(bytes.TrimSpace(text)) > 0 {
			return fmt.Errorf("%w: something follows the envelope", ErrNotSOAP)
		}
	}
}

// readBody reads the first element of the Body and skips the rest.
func (r *reader) readBody() error {
	for first := true; ; first = false {
		e, err := r.nextChild()
		if err != nil || e == nil {
			return err
		}
		if !first {
			if _, err := r.readText(); err != nil {
				return err
			}
			continue
		}
		members, err := r.readMembers(e.Name.Space)
		if err != nil {
			return err
		}
		r.answer.Name, r.answer.Members = e.Name, members
		if e.Name == (xml.Name{Space: Namespace, Local: "Fault"}) {
			r.answer.Fault = &Fault{Code: members["faultcode"], Text: members["faultstring"]}
		}
	}
}

func (r *reader) readMembers(space string) (map[string]string, error) {
	members := map[string]string{}
	for {
		e, err := r.nextChild()
		if err != nil || e == nil {
			return members, err
		}
		text, err := r.readText()
		if err != nil {
			return nil, err
		}
		if e.Name.Space != space && e.Name.Space != "" {
			continue
		}
		if _, again := members[e.Name.Local]; again {
			return nil, fmt.Errorf("%w: a member occurs twice", ErrNotSOAP)
		}
		members[e.Name.Local] = text
	}
}
