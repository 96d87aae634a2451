package plainjson_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/lamplighter/lamplighter/internal/plainjson"
)

func want(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func TestEveryCharacterIsWrittenAsEncodingJSONDoes(t *testing.T) {
	t.Parallel()
	texts := []string{"", "Cust12345", "a<b>&c", "\u2028\u2029", "é", "\xff\xfe", "a\x00b", `"quoted" \back`, "\x7f", "tab\t"}
	for c := range rune(300) {
		texts = append(texts, "a"+string(c)+"b")
	}
	for _, s := range texts {
		if got := string(plainjson.AppendString([]byte("x"), s)); got != "x"+want(t, s) {
			t.Errorf("%q: %s, want x%s", s, got, want(t, s))
		}
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("Release 8.4 R08")
	f.Add("a\"\\\n\u2028\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if got := string(plainjson.AppendString(nil, s)); got != want(t, s) {
			t.Errorf("%q: %s, want %s", s, got, want(t, s))
		}
	})
}
