package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/secret"
)

// oneOfRule accepts a closed set of words.
func oneOfRule(words ...string) Rule {
	list := strings.Join(words, ", ")
	return Rule{Accepts: "one of " + list, check: func(item string) error {
		if !slices.Contains(words, item) {
			return fmt.Errorf("%q is not one of %s", item, list)
		}
		return nil
	}}
}

// intRangeRule accepts whole numbers within bounds.
func intRangeRule(low, high int) Rule {
	words := fmt.Sprintf("%d to %d", low, high)
	return Rule{Accepts: words, check: func(item string) error {
		if n, err := strconv.Atoi(item); err == nil && (n < low || n > high) {
			return fmt.Errorf("%s is out of range: it must be %s", item, words)
		}
		return nil
	}}
}

// durationRangeRule accepts durations within bounds.
func durationRangeRule(low, high time.Duration) Rule {
	words := formatDuration(low) + " to " + formatDuration(high)
	return Rule{Accepts: words, check: func(item string) error {
		if d, err := time.ParseDuration(item); err == nil && (d < low || d > high) {
			return fmt.Errorf("%s is out of range: it must be %s", item, words)
		}
		return nil
	}}
}

// durationOrZeroRule is durationRangeRule, but also accepts 0, which switches the feature off.
func durationOrZeroRule(low, high time.Duration) Rule {
	r := durationRangeRule(low, high)
	return Rule{Accepts: "0 (never) or " + r.Accepts, check: func(item string) error {
		if d, err := time.ParseDuration(item); err == nil && d == 0 {
			return nil
		}
		return r.check(item)
	}}
}

// rsaBitsRule accepts 0 and useful lengths of RSA keys.
func rsaBitsRule() Rule {
	r := intRangeRule(1024, 8192)
	return Rule{Accepts: "0 or " + r.Accepts, check: func(item string) error {
		if item == "0" {
			return nil
		}
		return r.check(item)
	}}
}

var hostForm = regexp.MustCompile(`^(?i:[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(?i:\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)

// hostNameRule accepts a host name, which includes its subdomains.
func hostNameRule() Rule {
	const words = "a host name in ASCII, such as corp.example, without a dot before or behind it"
	return Rule{Accepts: words, check: func(item string) error {
		if _, err := netip.ParseAddr(item); err == nil {
			return fmt.Errorf("%q is an address: name it in guard.deny_cidrs", item)
		}
		if len(item) > 253 || !hostForm.MatchString(item) {
			return fmt.Errorf("%q must be %s", item, words)
		}
		return nil
	}}
}

// nat64PrefixRule accepts the prefixes of RFC 6052.
func nat64PrefixRule() Rule {
	const words = "an IPv6 network of 32, 40, 48, 56, 64 or 96 bits"
	return Rule{Accepts: words, check: func(item string) error {
		p, err := netip.ParsePrefix(item)
		if err == nil && (!p.Addr().Is6() || p.Addr().Is4In6() || !slices.Contains([]int{32, 40, 48, 56, 64, 96}, p.Bits())) {
			return fmt.Errorf("%q must be %s", item, words)
		}
		return nil
	}}
}

// licenceRule accepts an integration endpoint and the licence that it needs.
func licenceRule() Rule {
	endpoints := []string{"erp_sync", "quote_connector", "mirroring"}
	licences := []string{"custom_apps", "integration_server", "database_mirroring", "expander_services"}
	words := "one of " + strings.Join(endpoints, ", ") + ", an equals sign, and one of " + strings.Join(licences, ", ")
	return Rule{Accepts: words, check: func(item string) error {
		endpoint, needs, ok := strings.Cut(item, "=")
		if !ok || !slices.Contains(endpoints, endpoint) || !slices.Contains(licences, needs) {
			return fmt.Errorf("%q is not an endpoint and its licence, such as mirroring=database_mirroring: it must be %s", item, words)
		}
		return nil
	}}
}

// auditSinkRule accepts what package auditlog can write to.
func auditSinkRule() Rule {
	words := "the absolute path of a file, syslog, udp://host:port or tcp://host:port"
	return Rule{Accepts: words, check: func(item string) error {
		network, host, isURL := strings.Cut(item, "://")
		if isURL && (network == "udp" || network == "tcp") {
			if _, port, err := net.SplitHostPort(host); err == nil && port != "" {
				return nil
			}
		}
		if item == "syslog" || !isURL && filepath.IsAbs(item) {
			return nil
		}
		return fmt.Errorf("%q must be %s", secret.RedactURL(item), words)
	}}
}

func addressRule() Rule {
	return Rule{Accepts: "host:port, or :port for every interface", check: func(item string) error {
		_, port, err := net.SplitHostPort(item)
		if err != nil {
			return fmt.Errorf("%q is not an address: write it like 127.0.0.1:8080 or :8080", item)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("%q has no numeric port from 0 to 65535", item)
		} else if n == 0 && port != "0" {
			return fmt.Errorf("%q: write port 0 as 0", item)
		}
		return nil
	}}
}

// originRule accepts what a browser sends as Origin (RFC 6454 section 7).
func originRule() Rule {
	const words = "scheme and host in lower case, such as https://portal.example.com, without a path"
	return Rule{Accepts: words, check: func(item string) error {
		u, err := url.Parse(item)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || item != u.Scheme+"://"+u.Host || strings.ToLower(item) != item {
			return errors.New("this is not an origin: it must be " + words)
		}
		return nil
	}}
}

func webURLRule() Rule {
	const words = "an http or https URL without user, query and fragment"
	return Rule{Accepts: words, check: func(item string) error {
		u, err := url.Parse(item)
		switch {
		case err != nil:
			return errors.New("this is not a URL: it must be " + words)
		case u.User != nil:
			return errors.New("the URL holds a user name or password: it must be " + words)
		case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.RawQuery != "", u.ForceQuery, u.Fragment != "":
			return fmt.Errorf("%q must be %s", secret.RedactURL(item), words)
		}
		return nil
	}}
}

// redisSchemes are the forms of redis.url; redisconn reads the rest of it.
func redisSchemes() []string {
	return []string{"redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}
}

func redisURLRule() Rule {
	const words = "redis://, rediss://, redis[s]+sentinel://host:port,…/master/db or redis[s]+cluster://host:port,…"
	return Rule{Accepts: words, check: func(item string) error {
		scheme, rest, ok := strings.Cut(item, "://")
		if !ok || rest == "" || !slices.Contains(redisSchemes(), scheme) {
			return errors.New("the value is not a Redis URL: it must be " + words)
		}
		if strings.Contains(rest, secret.Mask+"@") {
			return fmt.Errorf("the value holds the placeholder %s: give the real user and password, or leave them out", secret.Mask)
		}
		return nil
	}}
}

var prefixForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func keyPrefixRule() Rule {
	const words = "1 to 64 letters, digits, '_', '.' and '-', the first a letter or digit"
	return Rule{Accepts: words, check: func(item string) error {
		if !prefixForm.MatchString(item) {
			return fmt.Errorf("%q must be %s", item, words)
		}
		return nil
	}}
}

func mailboxRule() Rule {
	const words = `an address such as ops@example.com or "Lamplighter <ops@example.com>"`
	return Rule{Accepts: words, check: func(item string) error {
		if a, err := mail.ParseAddress(item); err != nil || strings.ContainsAny(a.Name+a.Address, "\r\n") {
			return fmt.Errorf("%q is not %s", item, words)
		}
		return nil
	}}
}

func encryptionKeyRule() Rule {
	return Rule{Accepts: "32 bytes in base64", check: func(item string) error {
		_, err := secret.ParseKey(item)
		return err
	}}
}

// minTokenLength is the minimum of older versions; package service demands more of a new bootstrap token.
const minTokenLength = 16

func bearerTokenRule() Rule {
	words := fmt.Sprintf("%d to 256 printable characters without spaces", minTokenLength)
	return Rule{Accepts: words, check: func(item string) error {
		printable := !strings.ContainsFunc(item, func(r rune) bool { return r <= ' ' || r > '~' })
		if len(item) < minTokenLength || len(item) > 256 || !printable {
			return fmt.Errorf("the token must be %s: make one with: openssl rand -hex 24", words)
		}
		return nil
	}}
}

func notEmptyRule() Rule {
	return Rule{Accepts: "not empty", check: func(item string) error {
		if strings.TrimSpace(item) == "" {
			return errors.New("it must not be empty")
		}
		return nil
	}}
}
