package secret

import (
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// unreadableURL replaces a URL that cannot be parsed and so cannot be redacted in part.
const unreadableURL = "[unreadable URL]"

var webURL = regexp.MustCompile(`(?i)\bhttps?://[^\s"'<>]+`)

// RedactURL keeps scheme, host, port and path of a URL, and replaces user name and password, query and fragment by
// Mask. The result has only printable characters, and redacting it again changes nothing. A text that does not parse
// is hidden completely.
func RedactURL(raw string) string {
	// A URL that was redacted before does not parse, and must not be lost.
	u, err := url.Parse(strings.Replace(raw, "//"+Mask+"@", "//redacted@", 1))
	if err != nil {
		return unreadableURL
	}
	var b strings.Builder
	if u.Scheme != "" {
		b.WriteString(u.Scheme + ":")
	}
	if u.Opaque != "" {
		b.WriteString(Mask)
		return b.String()
	}
	if u.Host != "" || u.User != nil {
		b.WriteString("//")
	}
	if u.User != nil {
		b.WriteString(Mask + "@")
	}
	// A host may hold any percent-encoded character, line breaks and text
	// direction overrides among them.
	b.WriteString(strings.Map(dropUnprintableRune, strings.ToValidUTF8(u.Host, "")))
	b.WriteString(u.EscapedPath())
	if u.RawQuery != "" {
		b.WriteString("?" + Mask)
	}
	if u.Fragment != "" {
		b.WriteString("#" + Mask)
	}
	return b.String()
}

// RedactText redacts every web URL within a text. A text that is one URL is redacted as a URL, whatever characters
// its query has.
func RedactText(text string) string {
	at := webURL.FindStringIndex(text)
	if at == nil {
		return text
	}
	if at[0] == 0 && !strings.ContainsFunc(text, unicode.IsSpace) {
		return RedactURL(text)
	}
	return redactURLs(text)
}

// RedactError returns an error whose text shows no more of any URL than RedactURL does. rawURL is the URL that was
// called, whose text is hidden in every form; it may be empty. errors.Is and errors.As find the same errors as in
// err, but a *url.Error is a redacted copy, and Unwrap leads to that copy. A nil err stays nil.
func RedactError(err error, rawURL string) error {
	if err == nil {
		return nil
	}
	r := &redactedError{cause: err, text: err.Error()}
	if rawURL != "" {
		r.hideURL(rawURL)
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		inner := redactCause(ue, rawURL)
		r.text = strings.ReplaceAll(r.text, ue.Err.Error(), inner.Error())
		r.hideURL(ue.URL)
		r.next = &url.Error{Op: ue.Op, URL: RedactURL(ue.URL), Err: inner}
	}
	r.text = redactURLs(r.text)
	return r
}

// redactURLs redacts every web URL within a text. Punctuation after a URL
// belongs to the text.
func redactURLs(text string) string {
	return webURL.ReplaceAllStringFunc(text, func(match string) string {
		raw := strings.TrimRight(match, ".,:;!?)")
		return RedactURL(raw) + match[len(raw):]
	})
}

// redactCause returns ue.Err unchanged if it shows nothing, because callers and url.Error check its type.
func redactCause(ue *url.Error, rawURL string) error {
	if ue.Op == "parse" {
		// The parser quotes the piece it dislikes, which may be a password.
		return errMalformedURL
	}
	redacted := RedactError(ue.Err, rawURL)
	if redacted.Error() == ue.Err.Error() {
		return ue.Err
	}
	return redacted
}

var errMalformedURL = errors.New("malformed URL")

// redactedError implements Is and As with its cause, but returns no error whose text has the URL.
type redactedError struct {
	text  string
	next  *url.Error // the redacted copy; nil when cause holds none
	cause error
}

func (e *redactedError) hideURL(raw string) {
	redacted := RedactURL(raw)
	for _, form := range []string{raw, strings.Trim(strconv.Quote(raw), `"`)} {
		if form != "" {
			e.text = strings.ReplaceAll(e.text, form, redacted)
		}
	}
}

// Error is the redacted text.
func (e *redactedError) Error() string { return e.text }

// Unwrap returns the redacted *url.Error and its causes.
func (e *redactedError) Unwrap() error {
	if e.next == nil {
		return nil
	}
	return e.next
}

// Is searches the original chain.
func (e *redactedError) Is(target error) bool { return errors.Is(e.cause, target) }

// As searches the redacted part first, then the original chain.
func (e *redactedError) As(target any) bool {
	if e.next != nil && errors.As(e.next, target) {
		return true
	}
	return errors.As(e.cause, target)
}

// Timeout reports whether the cause was a timeout.
func (e *redactedError) Timeout() bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](e.cause)
	return ok && t.Timeout()
}

// dropUnprintableRune is a function for strings.Map that drops invisible characters: control characters, text
// direction overrides, zero-width and private characters, variation selectors.
func dropUnprintableRune(r rune) rune {
	if !unicode.IsPrint(r) || unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) {
		return -1
	}
	return r
}
