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
	// maxDepth bounds multiparts within multiparts.
	maxDepth = 4
)

// caught is a mail as shown.
type caught struct {
	from, to, subject, date, text string
}

// mails keeps the last mails. It is safe for concurrent use.
type mails struct {
	mu   sync.Mutex
	list []caught
}

// add parses a mail and keeps it; one that cannot be parsed is kept as it came.
func (m *mails) add(to []string, raw []byte) caught {
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

// show writes all mails for a terminal, the newest last.
func (m *mails) show(w io.Writer) {
	m.mu.Lock()
	list := slices.Clone(m.list)
	m.mu.Unlock()
	if len(list) == 0 {
		_, _ = io.WriteString(w, "No mail yet.\n")
	}
	for i, c := range list {
		_, _ = fmt.Fprintf(w, "---- mail %d of %d ----\nFrom: %s\nTo: %s\nDate: %s\nSubject: %s\n\n%s\n\n",
			i+1, len(list), oneLine(c.from), oneLine(c.to), oneLine(c.date), oneLine(c.subject), strings.TrimSpace(printable(c.text)))
	}
}

func parseMail(raw []byte) caught {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return caught{subject: "(not a mail)", text: string(raw)}
	}
	c := caught{from: decoded(m.Header.Get("From")), subject: decoded(m.Header.Get("Subject")), date: m.Header.Get("Date")}
	if c.text, err = plainText(textproto.MIMEHeader(m.Header), m.Body, maxDepth); err != nil {
		c.text = "(no text part: " + err.Error() + ")"
	}
	return c
}

func decoded(header string) string {
	if s, err := new(mime.WordDecoder).DecodeHeader(header); err == nil {
		return s
	}
	return header
}

var errNoText = errors.New("none found")

// plainText finds the first text/plain part.
func plainText(h textproto.MIMEHeader, body io.Reader, depth int) (string, error) {
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
		text, err := io.ReadAll(transferDecoded(h.Get("Content-Transfer-Encoding"), body))
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
		text, err := plainText(part.Header, part, depth-1)
		if !errors.Is(err, errNoText) {
			return text, err
		}
	}
}

func transferDecoded(encoding string, r io.Reader) io.Reader {
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		return quotedprintable.NewReader(r)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, r)
	default:
		return r
	}
}
