package soap

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// ErrUnreadable says that an answer cannot be decoded: its encoding is unknown, its bytes do not fit the declared
// encoding, or its parts cannot be separated. That says nothing of the service.
var ErrUnreadable = errors.New("the answer cannot be read")

// Byte order marks.
const (
	markUTF8  = "\xef\xbb\xbf"
	markUTF16 = "\xfe\xff"
	swapUTF16 = "\xff\xfe"
)

// ToUTF8 returns an answer in UTF-8, of its root part if it has several (MTOM). The encoding is determined by a byte
// order mark, then by the header's charset, then by the XML declaration (RFC 7303, section 3), and is otherwise
// UTF-8. The error is ErrUnreadable.
func ToUTF8(contentType string, b []byte) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, params = "", nil // headers are often malformed, and the text may say it itself
	}
	if strings.HasPrefix(kind, "multipart/") {
		return rootPart(params, b)
	}
	return decodeText(params["charset"], b)
}

// rootPart reads the part that holds the envelope (RFC 2387, section 3.2).
func rootPart(params map[string]string, b []byte) ([]byte, error) {
	r := multipart.NewReader(bytes.NewReader(b), params["boundary"])
	for {
		p, err := r.NextRawPart()
		if err != nil {
			return nil, fmt.Errorf("%w: it has no root part", ErrUnreadable)
		}
		if id := params["start"]; id != "" && p.Header.Get("Content-Id") != id {
			continue
		}
		var body io.Reader = p
		switch strings.ToLower(p.Header.Get("Content-Transfer-Encoding")) {
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, body)
		case "quoted-printable":
			body = quotedprintable.NewReader(body)
		}
		text, err := io.ReadAll(io.LimitReader(body, MaxAnswer))
		if err != nil {
			return nil, fmt.Errorf("%w: its root part is broken", ErrUnreadable)
		}
		_, inner, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			inner = nil
		}
		return decodeText(inner["charset"], text)
	}
}

// declaration finds the encoding in an XML declaration, which is ASCII in all known encodings.
var declaration = regexp.MustCompile(`^\s*<\?xml[^>]{0,100}?\sencoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']`) //nolint:gochecknoglobals // compiled once

// decodeText converts a text to UTF-8.
func decodeText(charset string, b []byte) ([]byte, error) {
	if rest, ok := bytes.CutPrefix(b, []byte(markUTF8)); ok {
		return validText(rest)
	}
	if e := detectUTF16(b); e != nil {
		return transcodeText(e, b)
	}
	declared := ""
	if m := declaration.FindSubmatch(b); m != nil {
		declared = string(m[1])
	}
	for _, name := range []string{charset, declared} {
		e, utf, known := findEncoding(name)
		switch {
		case name == "":
		case utf && utf8.Valid(b):
			return b, nil
		case utf && declared != "" && name != declared: // the server's default, which contradicts the declaration
		case utf:
			return validText(b)
		case known:
			return transcodeText(e, b)
		case name == declared || declared == "":
			return nil, fmt.Errorf("%w: its encoding is not known here", ErrUnreadable)
		}
	}
	return validText(b)
}

func validText(b []byte) ([]byte, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: it is not UTF-8, and declares nothing else", ErrUnreadable)
	}
	return b, nil
}

// detectUTF16 recognizes UTF-16 by its mark, or by the beginning of markup in it (XML 1.0, appendix F.1); nil for
// others.
func detectUTF16(b []byte) encoding.Encoding {
	switch {
	case bytes.HasPrefix(b, []byte(markUTF16)), bytes.HasPrefix(b, []byte(swapUTF16)):
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	case bytes.HasPrefix(b, []byte("\x00<")):
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	case bytes.HasPrefix(b, []byte("<\x00")):
		return unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	default:
		return nil
	}
}

// findEncoding finds a single-byte encoding that services use; utf is true for UTF-8, and for ASCII. UTF-16 is
// recognized by its bytes.
func findEncoding(name string) (e encoding.Encoding, utf, known bool) {
	switch strings.ToLower(name) {
	case "utf-8", "utf8", "us-ascii", "ascii", "utf-16", "utf-16le", "utf-16be":
		return nil, true, true // it is not UTF-16, as checked before: writers of strings declare that by habit
	case "iso-8859-1", "iso8859-1", "iso_8859-1", "latin1", "latin-1", "l1":
		return charmap.ISO8859_1, false, true
	case "iso-8859-15", "iso8859-15", "latin9", "latin-9":
		return charmap.ISO8859_15, false, true
	case "windows-1252", "cp1252":
		return charmap.Windows1252, false, true
	case "iso-8859-2", "latin2":
		return charmap.ISO8859_2, false, true
	case "windows-1250", "cp1250":
		return charmap.Windows1250, false, true
	case "windows-1251", "cp1251":
		return charmap.Windows1251, false, true
	default:
		return nil, false, false
	}
}

// transcodeText decodes a text and fails for undefined bytes.
func transcodeText(e encoding.Encoding, b []byte) ([]byte, error) {
	out, err := e.NewDecoder().Bytes(b)
	if err != nil || bytes.ContainsRune(out, utf8.RuneError) {
		return nil, fmt.Errorf("%w: its bytes do not fit the encoding that it declares", ErrUnreadable)
	}
	return out, nil
}
