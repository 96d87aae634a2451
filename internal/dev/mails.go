package dev

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"sync"
)

const (
	// maxMails is how many mails are kept.
	maxMails = 50
	// maxDepth limits nested multiparts.
	maxDepth = 4
)

// receivedMail is a mail as shown.
type receivedMail struct {
	from, to, subject, date, text string
}

// receivedMails keeps the last mails. It is safe for concurrent use.
type receivedMails struct {
	mu   sync.Mutex
	list []receivedMail
}

// add parses a mail and keeps it; one that cannot be parsed is kept unparsed.
func (m *receivedMails) add(to []string, raw []byte) receivedMail {
	c := parseMail(raw)
	c.to = strings.Join(to, ", ")
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.list) == maxMails {
		m.list = slices.Delete(m.list, 0, 1)
	}
	m.list = append(m.list, c)
	return c
}

// writeAll writes all mails for a terminal, the newest last.
func (m *receivedMails) writeAll(w io.Writer) {
	m.mu.Lock()
	list := slices.Clone(m.list)
	m.mu.Unlock()
	if len(list) == 0 {
		_, _ = io.WriteString(w, "No mail yet.\n")
	}
	for i, c := range list {
		_, _ = fmt.Fprintf(w, "---- mail %d of %d ----\nFrom: %s\nTo: %s\nDate: %s\nSubject: %s\n\n%s\n\n",
			i+1, len(list), formatOneLine(c.from), formatOneLine(c.to), formatOneLine(c.date), formatOneLine(c.subject), strings.TrimSpace(dropUnprintable(c.text)))
	}
}

func parseMail(raw []byte) receivedMail {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return receivedMail{subject: "(not a mail)", text: string(raw)}
	}
	c := receivedMail{from: decodeHeader(m.Header.Get("From")), subject: decodeHeader(m.Header.Get("Subject")), date: m.Header.Get("Date")}
	if c.text, err = findPlainText(textproto.MIMEHeader(m.Header), m.Body, maxDepth); err != nil {
		c.text = "(no text part: " + err.Error() + ")"
	}
	return c
}

func decodeHeader(header string) string {
	if s, err := new(mime.WordDecoder).DecodeHeader(header); err == nil {
		return s
	}
	return header
}

var errNoText = errors.New("none found")

// findPlainText finds the first text/plain part.
func findPlainText(h textproto.MIMEHeader, body io.Reader, depth int) (string, error) {
	if depth == 0 {
		return "", errNoText
	}
	kind, params := "text/plain", map[string]string(nil)
	if v := h.Get("Content-Type"); v != "" {
		var err error
		if kind, params, err = mime.ParseMediaType(v); err != nil {
			return "", err
		}
	}
	switch {
	case kind == "text/plain":
		text, err := io.ReadAll(decodeTransfer(h.Get("Content-Transfer-Encoding"), body))
		return strings.ReplaceAll(string(text), "\r\n", "\n"), err
	case !strings.HasPrefix(kind, "multipart/"):
		return "", errNoText
	}
	parts := multipart.NewReader(body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return "", errNoText
		}
		if err != nil {
			return "", err
		}
		text, err := findPlainText(part.Header, part, depth-1)
		if !errors.Is(err, errNoText) {
			return text, err
		}
	}
}

func decodeTransfer(encoding string, r io.Reader) io.Reader {
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		return quotedprintable.NewReader(r)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, r)
	default:
		return r
	}
}
