package partner

import (
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Limits of an app's settings, in characters, bytes or items. All of them together are bounded by
// MaxStored as well, which is what an app costs.
const (
	// MaxNameLength is in characters, of four bytes at most.
	MaxNameLength  = 200
	MaxURLLength   = 2048
	MaxEmailLength = 254
	MaxErrorEmails = 10
	MaxPublicKeys  = 4
	MaxKeyLength   = 8192
	MaxZoneLength  = 64
	// MaxStored is how many bytes an app may take as it is stored.
	MaxStored = 48 << 10
	// maxLicenses only bounds the work: no licence may be listed twice.
	maxLicenses = 100
)

// FieldError names one field that breaks a rule; it never repeats the value.
type FieldError struct {
	// Pointer is an RFC 6901 JSON pointer into the app.
	Pointer string `json:"pointer"`
	// Detail says the rule in words.
	Detail string `json:"detail"`
}

// ValidationError lists every field that breaks a rule.
type ValidationError []FieldError

// Error joins the fields.
func (e ValidationError) Error() string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = f.Pointer + ": " + f.Detail
	}
	return "invalid app: " + strings.Join(parts, "; ")
}

type checker struct{ errs ValidationError }

func (c *checker) fail(pointer, format string, args ...any) {
	c.errs = append(c.errs, FieldError{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
}

func (c *checker) text(pointer, s string, limit int) {
	switch {
	case !utf8.ValidString(s):
		c.fail(pointer, "must be valid UTF-8")
	case utf8.RuneCountInString(s) > limit:
		c.fail(pointer, "must be at most %d characters", limit)
	case strings.ContainsFunc(s, misleading):
		c.fail(pointer, "must not hold control characters")
	}
}

// misleading characters break lines or turn the text around, in mails and on pages. Joiners are
// none of them: names in some scripts need them.
func misleading(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// unseen characters have no place in an address that people compare by eye.
func unseen(r rune) bool {
	return unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf)
}

// Validate checks every rule that needs no network. nil means valid.
func Validate(a *App) error {
	c := &checker{}
	if _, err := ParseClientID(string(a.ClientID)); err != nil {
		c.fail("/client_id", "%v", err)
	}
	if strings.TrimSpace(a.Name) == "" {
		c.fail("/name", "is required")
	}
	c.text("/name", a.Name, MaxNameLength)
	c.contact(a)
	c.licenses("/required_licenses", a.RequiredLicenses)
	c.licenses("/granted_licenses", a.GrantedLicenses)
	if !slices.Contains(TokenAlgorithms(), a.TokenAlgorithm) {
		c.fail("/token_algorithm", "must be RS256 or ES256")
	}
	if a.ProbeTenant != "" {
		if _, err := tenant.ParseID(a.ProbeTenant); err != nil {
			c.fail("/probe_tenant", "%v", err)
		}
	}
	if a.BudgetFactor < 0 || a.BudgetFactor > MaxBudgetFactor {
		c.fail("/budget_factor", "must be a whole number from 1 to %d", MaxBudgetFactor)
	}
	c.keys(a.PublicKeys)
	for _, k := range AllEndpointKinds() {
		c.endpoint("/endpoints/"+k.String(), a.Endpoints[k])
	}
	if len(c.errs) == 0 {
		return nil
	}
	return c.errs
}

func (c *checker) contact(a *App) {
	c.text("/technical_contact/name", a.TechnicalContact.Name, MaxNameLength)
	if a.TechnicalContact.Email != "" {
		c.email("/technical_contact/email", a.TechnicalContact.Email)
	}
	if tz := a.TechnicalContact.TimeZone; tz != "" {
		if !timeZone(tz) {
			c.fail("/technical_contact/time_zone", "must be an IANA time zone such as Europe/Oslo, of at most %d bytes", MaxZoneLength)
		}
	}
	if len(a.ErrorEmails) > MaxErrorEmails {
		c.fail("/error_emails", "must hold at most %d addresses", MaxErrorEmails)
		return
	}
	seen := map[string]bool{}
	for i, e := range a.ErrorEmails {
		p := "/error_emails/" + strconv.Itoa(i)
		if l := strings.ToLower(e); seen[l] {
			c.fail(p, "is listed twice")
		} else {
			seen[l] = true
		}
		c.email(p, e)
	}
}

// timeZone reports whether s is a name of the tz database, spelt as it is there. Files beside those names
// are none: the machine's own zone, and the copies under posix and right, whose seconds differ.
func timeZone(s string) bool {
	if len(s) > MaxZoneLength {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || strings.Trim(part, zoneCharacters) != "" {
			return false
		}
	}
	area, _, _ := strings.Cut(s, "/")
	if slices.Contains([]string{"Local", "localtime", "posix", "posixrules", "right", "Factory"}, area) {
		return false
	}
	_, err := time.LoadLocation(s)
	return err == nil
}

const zoneCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-"

// email accepts one bare address (RFC 5322 addr-spec, internationalised names included).
func (c *checker) email(pointer, s string) {
	if len(s) > MaxEmailLength {
		c.fail(pointer, "must be at most %d characters", MaxEmailLength)
		return
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unseen) {
		c.fail(pointer, "must be one mail address without spaces or control characters")
		return
	}
	addr, err := mail.ParseAddress(s)
	if err != nil || addr.Name != "" || addr.Address != s {
		c.fail(pointer, "must be one mail address such as kim@example.com")
		return
	}
	domain := s[strings.LastIndexByte(s, '@')+1:]
	if !domainName(domain) {
		c.fail(pointer, "must have a domain name after the @")
	}
}

// domainName accepts what can be a mail domain: labels of letters, digits and inner hyphens, at
// least two of them unless it is localhost.
func domainName(s string) bool {
	labels := strings.Split(s, ".")
	if len(labels) < 2 && s != "localhost" {
		return false
	}
	for _, l := range labels {
		if l == "" || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") {
			return false
		}
		for _, r := range l {
			if r != '-' && !unicode.In(r, unicode.L, unicode.M, unicode.Nd) {
				return false
			}
		}
	}
	return true
}

func (c *checker) licenses(pointer string, ls []License) {
	if len(ls) > maxLicenses {
		c.fail(pointer, "must hold at most %d licences", maxLicenses)
		return
	}
	for i, l := range ls {
		switch p := pointer + "/" + strconv.Itoa(i); {
		case !slices.Contains(Licenses(), l):
			c.fail(p, "must be one of custom_apps, integration_server, database_mirroring, expander_services")
		case slices.Contains(ls[:i], l):
			c.fail(p, "is listed twice")
		}
	}
}

func (c *checker) keys(keys []string) {
	if len(keys) > MaxPublicKeys {
		c.fail("/public_keys", "must hold at most %d keys", MaxPublicKeys)
		return
	}
	for i, k := range keys {
		if err := CheckPublicKey(k); err != nil {
			c.fail("/public_keys/"+strconv.Itoa(i), "%v", err)
		}
	}
}

func (c *checker) endpoint(pointer string, e Endpoint) {
	if e.URL != "" {
		c.url(pointer+"/url", e.URL)
	}
	known := 0
	for _, env := range Environments() {
		u, ok := e.URLs[env]
		if ok {
			known++
		}
		if u != "" {
			c.url(pointer+"/urls/"+string(env), u)
		}
	}
	if known < len(e.URLs) {
		c.fail(pointer+"/urls", "keys must be sod, stage or online")
	}
}

// url checks the shape alone; scheme, port and address are the guard's, which knows the settings.
func (c *checker) url(pointer, s string) {
	if len(s) > MaxURLLength {
		c.fail(pointer, "must be at most %d characters", MaxURLLength)
		return
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unseen) {
		c.fail(pointer, "must be a URL without spaces or control characters")
		return
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		c.fail(pointer, "must be an absolute URL such as https://partner.example/hook")
	case u.User != nil:
		c.fail(pointer, "must not carry credentials")
	case u.Fragment != "" || strings.Contains(s, "#"):
		c.fail(pointer, "must not carry a fragment")
	case !portNumber(u):
		c.fail(pointer, "must have a port between 1 and 65535, or none")
	}
}

func portNumber(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}
