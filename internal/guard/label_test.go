package guard_test

import (
	"testing"

	"golang.org/x/net/idna"

	"github.com/lamplighter/lamplighter/internal/guard"
)

func TestConfusableNames(t *testing.T) {
	t.Parallel()
	g := guard.New(guard.Policy{}, nil)
	for name, confusing := range map[string]bool{
		"blåbær.example":   false,
		"straße.example":   false,
		"пример.example":   false, // Cyrillic with letters that only it has
		"ѕсоре.рф":         false, // under a top level of its own script
		"παράδειγμα.gr":    false,
		"例え.example":       false, // Han with Hiragana
		"ドメイン名.example":    false,
		"한국例.example":      false,
		"웹a.example":       false, // Hangul with Latin
		"مثال.example":     false,
		"उदाहरण.example":   false,
		"pаrtner.example":  true, // Cyrillic а in Latin
		"аррӏе.example":    true, // nothing but look-alikes
		"ехр-1.example":    true,
		"gοogle.example":   true, // Greek omicron in Latin
		"ορο.example":      true,
		"a例пр.example":     true,
		"partner☕.example": true,
		"a⁄b.example":      true, // fraction slash
		"sub.pаrtner.com":  true,
	} {
		for _, host := range []string{name, punycode(t, name)} {
			_, err := g.CheckURL("https://" + host + "/")
			if got := reasonOf(t, err); (got == guard.ReasonHost) != confusing || got != "" && got != guard.ReasonHost {
				t.Errorf("%s (%s): %v, want confusing %v", name, host, err, confusing)
			}
		}
	}
}

// punycode spells a name as DNS does, without any check.
func punycode(t *testing.T, name string) string {
	t.Helper()
	ascii, err := idna.Punycode.ToASCII(name)
	if err != nil {
		t.Fatal(err)
	}
	return ascii
}
