package partner

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// privateDomains are top-level domains that are not in the public DNS (RFC 6761, RFC 6762, RFC 9476, and those that
// ICANN reserves). The relay could deliver mail to them to a machine in its own network.
func privateDomains() []string {
	return []string{
		"localhost", "localdomain", "local", "internal", "intranet", "corp", "home", "lan", "private", "mail", "invalid", "onion", "arpa", "alt",
	}
}

// CheckNewAddresses checks the addresses that a write adds. Addresses that the app already has are not checked, so that
// a newer rule does not block writes of other members. confusing reports whether a name, in Unicode, looks like
// another. The error is a ValidationError. ValidateApp must be called before.
func CheckNewAddresses(app, old *App, confusing func(name string) bool) error {
	c := &checker{}
	for _, a := range findNewAddresses(app, old) {
		c.checkNewAddress(a.pointer, a.address, confusing)
	}
	if len(c.errs) == 0 {
		return nil
	}
	return c.errs
}

func (c *checker) checkNewAddress(pointer, address string, confusing func(string) bool) {
	i := strings.LastIndexByte(address, '@')
	local, domain := address[:max(i, 0)], strings.ToLower(address[i+1:])
	spoken := domain
	if !isASCII(domain) || strings.Contains(domain, "xn--") {
		name, err := idna.Lookup.ToASCII(domain)
		if err == nil {
			domain = name
			spoken, err = idna.Punycode.ToUnicode(name)
		}
		if err != nil {
			c.addError(pointer, "must have a valid internationalised domain name after the @")
			return
		}
	}
	labels := strings.Split(domain, ".")
	top := labels[len(labels)-1]
	switch {
	case len(labels) < 2 || slices.Contains(privateDomains(), top):
		c.addError(pointer, "must have a domain name of the public DNS after the @, such as example.com: not localhost, a single word, or a name of a private network")
	case strings.Trim(top, "0123456789") == "":
		c.addError(pointer, "must have a domain name after the @, not an IP address")
	case !isPlainLocalPart(local):
		c.addError(pointer, "must have before the @ words of letters and digits, joined by . _ - + = or ': other characters have a special meaning for mail servers or shells")
	case norm.NFKC.String(local) != norm.NFC.String(local) || confusing(strings.Join(strings.FieldsFunc(local, isJoiner), ".")+"."+spoken):
		c.addError(pointer, "mixes scripts, or looks like an address in other letters: it could be taken for another person's")
	}
}

// isPlainLocalPart reports whether a local part is words of letters and digits, joined by the usual characters. The others
// that RFC 5322 allows have a special meaning for a mail server (a route with ! or %, a pipe, a file, an option) or a shell.
func isPlainLocalPart(s string) bool {
	rs := []rune(s)
	for i, r := range rs {
		inside := i > 0 && i < len(rs)-1
		switch {
		case unicode.In(r, unicode.L, unicode.Nd), r == '_', i > 0 && unicode.Is(unicode.M, r):
		case r == '\'' && inside && unicode.IsLetter(rs[i-1]) && unicode.IsLetter(rs[i+1]):
		case r != '\'' && isJoiner(r) && i > 0:
		default:
			return false
		}
	}
	return len(rs) > 0
}

// isJoiner reports whether a character may join two words of a local part.
func isJoiner(r rune) bool { return strings.ContainsRune(".-+='", r) }

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) }
