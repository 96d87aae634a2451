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

// Limits of an app's settings, in characters, bytes or items. MaxStored bounds the whole app, and so the
// memory that it uses.
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
	// maxLicenses only bounds the work, since no licence may be listed twice.
	maxLicenses = 100
)

// FieldError names one field that breaks a rule; it never repeats the value.
type FieldError struct {
	Pointer string `json:"pointer" doc:"A JSON pointer (RFC 6901) to a member, or / and the name of a path segment or query parameter."`
	// Detail describes the rule.
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

func (c *checker) addError(pointer, format string, args ...any) {
	c.errs = append(c.errs, FieldError{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
}

func (c *checker) checkText(pointer, s string, limit int) {
	switch {
	case !utf8.ValidString(s):
		c.addError(pointer, "must be valid UTF-8")
	case utf8.RuneCountInString(s) > limit:
		c.addError(pointer, "must be at most %d characters", limit)
	case strings.ContainsFunc(s, isMisleading):
		c.addError(pointer, "must not hold control characters")
	}
}

// isMisleading reports whether a character breaks lines or changes the text's direction, in mails and on
// pages. Joiners do not: names in some scripts need them.
func isMisleading(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// isInvisible reports whether a character is invisible, which an address must not hold: addresses are compared by eye.
func isInvisible(r rune) bool {
	return unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf)
}

// ValidateApp checks every rule that needs no network. nil means valid.
func ValidateApp(a *App) error {
	c := &checker{}
	if _, err := ParseClientID(string(a.ClientID)); err != nil {
		c.addError("/client_id", "%v", err)
	}
	if strings.TrimSpace(a.Name) == "" {
		c.addError("/name", "is required")
	}
	c.checkText("/name", a.Name, MaxNameLength)
	c.checkContact(a)
	c.checkLicenses("/required_licenses", a.RequiredLicenses)
	c.checkLicenses("/granted_licenses", a.GrantedLicenses)
	if !slices.Contains(AllTokenAlgorithms(), a.TokenAlgorithm) {
		c.addError("/token_algorithm", "must be RS256 or ES256")
	}
	if a.ProbeTenant != "" {
		if _, err := tenant.ParseID(a.ProbeTenant); err != nil {
			c.addError("/probe_tenant", "%v", err)
		}
	}
	if a.BudgetFactor < 0 || a.BudgetFactor > MaxBudgetFactor {
		c.addError("/budget_factor", "must be a whole number from 1 to %d", MaxBudgetFactor)
	}
	c.checkPublicKeys(a.PublicKeys)
	for _, k := range AllEndpointKinds() {
		c.checkEndpoint("/endpoints/"+k.String(), a.Endpoints[k])
	}
	if len(c.errs) == 0 {
		return nil
	}
	return c.errs
}

func (c *checker) checkContact(a *App) {
	c.checkText("/technical_contact/name", a.TechnicalContact.Name, MaxNameLength)
	if a.TechnicalContact.Email != "" {
		c.checkEmail("/technical_contact/email", a.TechnicalContact.Email)
	}
	if tz := a.TechnicalContact.TimeZone; tz != "" {
		if !isTimeZone(tz) {
			c.addError("/technical_contact/time_zone", "must be an IANA time zone such as Europe/Oslo, of at most %d bytes", MaxZoneLength)
		}
	}
	if len(a.ErrorEmails) > MaxErrorEmails {
		c.addError("/error_emails", "must hold at most %d addresses", MaxErrorEmails)
		return
	}
	seen := map[string]bool{}
	for i, e := range a.ErrorEmails {
		p := "/error_emails/" + strconv.Itoa(i)
		if l := strings.ToLower(e); seen[l] {
			c.addError(p, "is listed twice")
		} else {
			seen[l] = true
		}
		c.checkEmail(p, e)
	}
}

// isTimeZone reports whether s is a name of the tz database, in its spelling there. Other files in the same
// directory do not count: the machine's own zone, and the copies under posix and right (with leap seconds).
func isTimeZone(s string) bool {
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

// checkEmail accepts one bare address (RFC 5322 addr-spec, internationalised names included).
func (c *checker) checkEmail(pointer, s string) {
	if len(s) > MaxEmailLength {
		c.addError(pointer, "must be at most %d characters", MaxEmailLength)
		return
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, isInvisible) {
		c.addError(pointer, "must be one mail address without spaces or control characters")
		return
	}
	addr, err := mail.ParseAddress(s)
	if err != nil || addr.Name != "" || addr.Address != s {
		c.addError(pointer, "must be one mail address such as kim@example.com")
		return
	}
	domain := s[strings.LastIndexByte(s, '@')+1:]
	if !isDomainName(domain) {
		c.addError(pointer, "must have a domain name after the @")
	}
}

// isDomainName accepts what can be a mail domain: labels of letters, digits and inner hyphens, at
// least two of them unless it is localhost.
func isDomainName(s string) bool {
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

func (c *checker) checkLicenses(pointer string, ls []License) {
	if len(ls) > maxLicenses {
		c.addError(pointer, "must hold at most %d licences", maxLicenses)
		return
	}
	for i, l := range ls {
		switch p := pointer + "/" + strconv.Itoa(i); {
		case !slices.Contains(AllLicenses(), l):
			c.addError(p, "must be one of custom_apps, integration_server, database_mirroring, expander_services")
		case slices.Contains(ls[:i], l):
			c.addError(p, "is listed twice")
		}
	}
}

func (c *checker) checkPublicKeys(keys []string) {
	if len(keys) > MaxPublicKeys {
		c.addError("/public_keys", "must hold at most %d keys", MaxPublicKeys)
		return
	}
	for i, k := range keys {
		if err := CheckPublicKey(k); err != nil {
			c.addError("/public_keys/"+strconv.Itoa(i), "%v", err)
		}
	}
}

func (c *checker) checkEndpoint(pointer string, e Endpoint) {
	if e.URL != "" {
		c.checkURL(pointer+"/url", e.URL)
	}
	known := 0
	for _, env := range AllEnvironments() {
		u, ok := e.URLs[env]
		if ok {
			known++
		}
		if u != "" {
			c.checkURL(pointer+"/urls/"+string(env), u)
		}
	}
	if known < len(e.URLs) {
		c.addError(pointer+"/urls", "keys must be sod, stage or online")
	}
}

// checkURL checks only the form. The guard checks scheme, port and address, since it knows the settings.
func (c *checker) checkURL(pointer, s string) {
	if len(s) > MaxURLLength {
		c.addError(pointer, "must be at most %d characters", MaxURLLength)
		return
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, isInvisible) {
		c.addError(pointer, "must be a URL without spaces or control characters")
		return
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		c.addError(pointer, "must be an absolute URL such as https://partner.example/hook")
	case u.User != nil:
		c.addError(pointer, "must not carry credentials")
	case u.Fragment != "" || strings.Contains(s, "#"):
		c.addError(pointer, "must not carry a fragment")
	case !hasValidPort(u):
		c.addError(pointer, "must have a port between 1 and 65535, or none")
	}
}

func hasValidPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}
