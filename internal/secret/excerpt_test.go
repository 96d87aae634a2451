package secret_test

import (
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/lamplighter/lamplighter/internal/secret"
)

func TestExcerptKeepsWhatHelps(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"Service Unavailable",
		`{"error":"invalid token: expired","status":401}`,
		"token=expired; basic authentication required",
		"System.ServiceModel.FaultException: The message could not be processed.",
		"<h1>502 Bad Gateway</h1> ---------------------------------------- nginx/1.24.0",
		"Ikke tilgjengelig før kl. 09:00 – prøv igjen 日本語",
		"https://partner.example/hook/customers answered 404",
	} {
		if got := secret.MakeExcerpt([]byte(text), 200); got != text {
			t.Errorf("Excerpt(%q) = %q", text, got)
		}
	}
}

func TestExcerptCleans(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"WhiteSpace":   {"  a\r\n\r\n\tb\u00a0\u2003c\u2028d\u0085e ", "a b c d e"},
		"Controls":     {"a\x00b\x07c\x7fd", "abcd"},
		"Colours":      {"\x1b[31mred\x1b[0m \x1b[1;4mx", "red x"},
		"Cursor":       {"a\x1b[2J\x1b[Hb\u009b2Jc", "abc"},
		"Title":        {"a\x1b]0;owned\x07b\x1b]8;;http://x\x1b\\c", "abc"},
		"OpenTitle":    {"a\x1b]0;owned\nb", "a b"},
		"Bidi":         {"user\u202etxt.exe\u2066 \u200fok", "usertxt.exe ok"},
		"ZeroWidth":    {"a\u200bb\ufeffc\u00add\u2060e", "abcde"},
		"Variations":   {"a\ufe0f\U000e0101\U000e0041b", "ab"},
		"Private":      {"a\ue000b", "ab"},
		"InvalidUTF8":  {"a\xff\xfeb", "a\ufffdb"},
		"Empty":        {"", ""},
		"OnlyControls": {"\x00\x01 \x1b[0m", ""},
	} {
		if got := secret.MakeExcerpt([]byte(tc.in), 100); got != tc.want {
			t.Errorf("%s: Excerpt(%q) = %q, want %q", name, tc.in, got, tc.want)
		}
	}
}

func TestExcerptMasks(t *testing.T) {
	t.Parallel()
	jwt := "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJDdXN0MTIzNDUifQ.c2lnbmF0dXJl"
	basic := base64.StdEncoding.EncodeToString([]byte("kim:hunter2"))
	for name, tc := range map[string]struct{ in, want string }{
		"JWT":           {"bad " + jwt + ", sorry", "bad [redacted], sorry"},
		"JWTInJSON":     {`{"Got":"` + jwt + `"}`, `{"Got":"[redacted]"}`},
		"SplitJWT":      {"bad " + jwt[:10] + "\u200b" + jwt[10:], "bad [redacted]"},
		"Bearer":        {"expected Bearer abc.def, got bearer\n xyz", "expected Bearer [redacted], got bearer [redacted]"},
		"Basic":         {"got Basic " + basic, "got Basic [redacted]"},
		"Authorization": {"Authorization: Digest hunter2\nHost: x", "Authorization: [redacted] Host: x"},
		"WebhookSecret": {"used whsec_MfKQ9r8GKYqrTwjUPD8I", "used [redacted]"},
		"AdminToken":    {"used lmp_short.", "used [redacted]"},
		"Hex":           {"hash " + strings.Repeat("0a", 16) + " bad", "hash [redacted] bad"},
		"Base64":        {"sig " + strings.Repeat("aB+/", 8) + "==", "sig [redacted]"},
		"ShortHex":      {"hash " + strings.Repeat("a", 31), "hash " + strings.Repeat("a", 31)},
		"Cookie":        {"Set-Cookie: sid=abc; Path=/\r\nServer: x", "Set-Cookie: [redacted] Server: x"},
		"CookieJSON":    {`{"cookie":"a=\"b\"; c","n":1}`, `{"cookie":[redacted],"n":1}`},
		"Password":      {`password=hunter2&user=kim`, `password=[redacted]&user=kim`},
		"PasswordJSON":  {`{"dbPassword": "hunter2", "n": 1}`, `{"dbPassword": [redacted], "n": 1}`},
		"Connection":    {"Server=db;User Id=sa;Pwd=hunter2;Encrypt=no", "Server=db;User Id=sa;Pwd=[redacted];Encrypt=no"},
		"AccessToken":   {"access_token=abc123 refused", "access_token=[redacted] refused"},
		"URLQuery":      {"see https://x.example/a?code=abc for more", "see https://x.example/a?[redacted] for more"},
		"URLUser":       {"redis at https://kim:pw@x.example/", "redis at https://[redacted]@x.example/"},
		"PEM":           {"-----BEGIN PRIVATE KEY-----\nMIIE\nabc\n-----END PRIVATE KEY----- after", "[redacted] after"},
		"OpenPEM":       {"key -----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc", "key [redacted]"},
		"AWS":           {"AKIAIOSFODNN7EXAMPLE denied", "[redacted] denied"},
	} {
		if got := secret.MakeExcerpt([]byte(tc.in), 300); got != tc.want {
			t.Errorf("%s: Excerpt = %q, want %q", name, got, tc.want)
		}
	}
}

func TestExcerptIsShort(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   string
		max  int
		want string
	}{
		"Fits":       {"abcdef", 6, "abcdef"},
		"Cut":        {"abcdefg", 6, "abc…"},
		"CutAtSpace": {"ab cdefgh", 6, "ab…"},
		"RuneWhole":  {"aøøøøø", 7, "aø…"},
		"TooSmall":   {"abcdef", 2, ""},
		"Zero":       {"abcdef", 0, ""},
		"Negative":   {"abcdef", -1, ""},
		"MaskedOnce": {"lmp_" + strings.Repeat("a", 500) + " b", 20, "[redacted] b"},
	} {
		if got := secret.MakeExcerpt([]byte(tc.in), tc.max); got != tc.want {
			t.Errorf("%s: Excerpt = %q, want %q", name, got, tc.want)
		}
	}
}

func TestExcerptOfAHugeBody(t *testing.T) {
	t.Parallel()
	// The window ends within the token, whose head alone is too short to be
	// recognised as one.
	head := strings.Repeat("\n", 4<<10+4*100-20) + "ok: "
	body := head + strings.Repeat("S3", 4000)
	if got := secret.MakeExcerpt([]byte(body), 100); got != "ok:…" {
		t.Errorf("Excerpt = %q", got)
	}
	minified := `{"a":[` + strings.Repeat(`"b",`, 64<<10) + `]}`
	if got := secret.MakeExcerpt([]byte(minified), 12); got != `{"a":["b"…` {
		t.Errorf("Excerpt = %q", got)
	}
}

var (
	runOfKeyMaterial = regexp.MustCompile(`[A-Za-z0-9]{32,}`)
	planted          = regexp.MustCompile(`whsec_[A-Za-z0-9]|lmp_[A-Za-z0-9]|eyJ[A-Za-z0-9_-]{4,}\.`)
)

func FuzzExcerpt(f *testing.F) {
	for _, s := range []string{
		"plain", "\x1b[31m", "a\xffb\u202e", "Bearer x", "https://h%E2%80%AEost/?q", "Cookie: a=\"b\"; c",
		"eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "whsec_abc", "password: 'x", strings.Repeat("a1", 40), "-----BEGIN X-----",
	} {
		f.Add([]byte(s), 80)
	}
	f.Fuzz(func(t *testing.T, body []byte, limit int) {
		limit %= 4096
		got := secret.MakeExcerpt(body, limit)
		if len(got) > max(limit, 0) {
			t.Errorf("%d bytes, limit %d", len(got), limit)
		}
		if !utf8.ValidString(got) {
			t.Errorf("not UTF-8: %q", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q holds %U", got, r)
			}
		}
		if strings.Contains(got, "  ") || strings.TrimSpace(got) != got {
			t.Errorf("white space left in %q", got)
		}
		if runOfKeyMaterial.MatchString(got) || planted.MatchString(got) {
			t.Errorf("a token is left in %q", got)
		}
	})
}

func BenchmarkExcerpt(b *testing.B) {
	body := []byte(strings.Repeat("<p>The service is unavailable. Request 4711, token abc.</p>\n", 70))
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		secret.MakeExcerpt(body, 300)
	}
}
