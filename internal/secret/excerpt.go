package secret

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MakeExcerpt reads excerptHead bytes and excerptFactor more for each byte that it may return. This is enough for
// white space and masks, and limits the work that a hostile answer can cause.
const (
	excerptHead   = 4 << 10
	excerptFactor = 4
)

// longRunLength is the number of base64 or hex characters from which on a run
// counts as key material.
const longRunLength = 32

// ellipsis marks an excerpt that was cut.
const ellipsis = "…"

// MakeExcerpt makes a piece of an untrusted answer safe for a log line, a mail or a table. It is at most max bytes of
// valid UTF-8 on one line, without control characters, terminal sequences or text direction overrides, with white
// space collapsed. Mask replaces what looks like a credential: JWTs, Authorization values, cookies, passwords and
// keys by name, PEM blocks, whsec_ and lmp_ tokens, runs of 32 or more base64 or hex characters, queries of URLs. In
// doubt it hides. It does not escape HTML: the template must do so.
func MakeExcerpt(body []byte, max int) string {
	window := excerptHead + excerptFactor*max
	if max <= 0 || window <= 0 {
		return ""
	}
	cut := len(body) > window
	if cut {
		body = dropPartialToken(body[:window])
	}
	text := terminalSequence.ReplaceAllString(string(bytes.ToValidUTF8(body, []byte("\uFFFD"))), "")
	text = strings.Map(normalizeRune, text)
	text = maskCredentials(text)
	text = strings.Join(strings.Fields(text), " ")
	return truncateText(text, max, cut)
}

// dropPartialToken removes token characters at the end, since a cut token may be too short to be recognized.
func dropPartialToken(body []byte) []byte {
	return bytes.TrimRight(body, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_=%-.~")
}

// normalizeRune keeps line breaks, for patterns that end with a line. It turns other white space into spaces and
// drops invisible characters.
func normalizeRune(r rune) rune {
	switch {
	case r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029':
		return '\n'
	case unicode.IsSpace(r):
		return ' '
	}
	return dropUnprintableRune(r)
}

func truncateText(text string, max int, cut bool) string {
	if len(text) <= max && !cut {
		return text
	}
	room := max - len(ellipsis)
	if room < 0 {
		return ""
	}
	room = min(room, len(text))
	for room > 0 && room < len(text) && !utf8.RuneStart(text[room]) {
		room--
	}
	return strings.TrimRight(text[:room], " ") + ellipsis
}

// The patterns of credentials. RE2 runs them in linear time, which matters as
// the partner chooses the text.
var (
	// CSI and OSC sequences, in their 7-bit and C1 forms, then other escapes.
	terminalSequence = regexp.MustCompile(`(?:\x1b\[|\x{9b})[0-?]*[ -/]*[@-~]?` +
		`|(?:\x1b[\]PX^_]|[\x{9d}\x{90}\x{98}\x{9e}\x{9f}])[^\x07\x1b\x{9c}\n]*(?:\x07|\x1b\\|\x{9c})?` +
		`|\x1b[ -/]*[0-~]?`)

	pemBlock = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|$)`)
	jwt      = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){1,4}`)
	known    = regexp.MustCompile(`(?i)(?:whsec|whsk|lmp|gh[opsu]|[rs]k_live|[rs]k_test)_[A-Za-z0-9+/=_.-]+|AKIA[0-9A-Z]{16}`)
	bearer   = regexp.MustCompile(`(?i)\b(bearer)\s+[^\s"',;<>]+`)
	basic    = regexp.MustCompile(`(?i)\b(basic)\s+([A-Za-z0-9+/_-]{4,}={0,2})`)

	// A header or member whose whole value is confidential, to the closing
	// quotation mark or the end of the line.
	header = regexp.MustCompile(`(?i)\b((?:set-)?cookie2?|(?:proxy-)?authorization|x-[a-z-]*(?:key|token|auth)[a-z-]*|x-superoffice-signature|webhook-signature)` +
		`(["']?\s*[:=]\s*)(?:"(?:[^"\\\n]|\\.)*"?|[^\n]*)`)
	// A name that always means a secret, to the end of the value.
	named = regexp.MustCompile(`(?i)((?:password|passwd|passphrase|pwd|secret|credentials?|api[_-]?key|private[_-]?key|access[_-]?key|session_?id|jsessionid|phpsessid)[a-z0-9_-]*)` +
		`(["']?\s*[:=]\s*)("(?:[^"\\\n]|\\.)*"?|'[^'\n]*'?|[^\s&,;<>"']+)`)
	// A name that means a secret where the value looks like one: "token:
	// expired" should stay readable.
	maybeNamed = regexp.MustCompile(`(?i)((?:token|ticket|nonce|signature|\bsig|\bsid|\botp|\bauth)[a-z0-9_-]*)` +
		`(["']?\s*[:=]\s*)("(?:[^"\\\n]|\\.)*"?|'[^'\n]*'?|[^\s&,;<>"']+)`)
)

// maskRule is one pattern, and lower-case words of which a match contains at least one. Searching words is a hundred
// times cheaper than matching, and most answers contain none.
type maskRule struct {
	keywords []string
	apply    func(string) string
}

func (r maskRule) maskMatches(s, lower string) string {
	for _, w := range r.keywords {
		if strings.Contains(lower, w) {
			return r.apply(s)
		}
	}
	return s
}

// listMaskRules lists the patterns in the order in which they must run.
func listMaskRules() []maskRule {
	return []maskRule{
		{[]string{"-----begin"}, func(s string) string { return pemBlock.ReplaceAllString(s, Mask) }},
		{[]string{"://"}, redactURLs},
		{[]string{"cookie", "authorization", "x-", "webhook-signature"}, func(s string) string { return header.ReplaceAllString(s, "${1}${2}"+Mask) }},
		{
			[]string{"pass", "pwd", "secret", "credential", "key", "session", "sessid"},
			func(s string) string { return named.ReplaceAllString(s, "${1}${2}"+Mask) },
		},
		{
			[]string{"token", "ticket", "nonce", "sig", "sid", "otp", "auth"},
			func(s string) string { return maybeNamed.ReplaceAllStringFunc(s, maskLikelySecret) },
		},
		{[]string{"eyj"}, func(s string) string { return jwt.ReplaceAllString(s, Mask) }},
		{[]string{"bearer"}, func(s string) string { return bearer.ReplaceAllString(s, "${1} "+Mask) }},
		{[]string{"basic"}, func(s string) string { return basic.ReplaceAllStringFunc(s, maskBasic) }},
		{[]string{"_", "akia"}, func(s string) string { return known.ReplaceAllString(s, Mask) }},
	}
}

func maskCredentials(s string) string {
	lower := strings.ToLower(s)
	for _, r := range listMaskRules() {
		s = r.maskMatches(s, lower)
	}
	return maskLongRuns(s)
}

// maskLongRuns hides runs of base64, base64url, percent-encoded and hex text. Lines drawn with punctuation are left
// alone.
func maskLongRuns(s string) string {
	var b strings.Builder
	copied, start, letters := 0, 0, false
	flush := func(end int) {
		if end-start >= longRunLength && letters {
			b.WriteString(s[copied:start])
			b.WriteString(Mask)
			copied = end
		}
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
			letters = true
		case strings.IndexByte("+/_=%-", c) >= 0:
		default:
			flush(i)
			start, letters = i+1, false
		}
	}
	flush(len(s))
	if copied == 0 {
		return s
	}
	return b.String() + s[copied:]
}

func maskLikelySecret(match string) string {
	m := maybeNamed.FindStringSubmatch(match)
	if m == nil || !strings.ContainsAny(m[3], "0123456789") {
		return match
	}
	return m[1] + m[2] + Mask
}

// maskBasic hides what decodes to user:password, and leaves "basic authentication required" alone.
func maskBasic(match string) string {
	m := basic.FindStringSubmatch(match)
	if m == nil {
		return match
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(m[2], "="))
	if err != nil || !bytes.Contains(raw, []byte(":")) {
		return match
	}
	return m[1] + " " + Mask
}
