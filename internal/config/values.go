package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/secret"
)

// assignField parses items into a field. A scalar has exactly one item.
func assignField(field any, items []string) error {
	switch f := field.(type) {
	case *string:
		*f = items[0]
		return nil
	case *secret.Text:
		return f.UnmarshalText([]byte(items[0]))
	case *bool:
		return parseOne(f, items[0], parseBool)
	case *int:
		return parseOne(f, items[0], parseInt)
	case *time.Duration:
		return parseOne(f, items[0], parseDuration)
	case *[]string:
		return parseAll(f, items, func(s string) (string, error) { return s, nil })
	case *[]secret.Text:
		return parseAll(f, items, parseSecret)
	case *[]time.Duration:
		return parseAll(f, items, parseDuration)
	case *[]uint16:
		return parseAll(f, items, parsePort)
	case *[]netip.Prefix:
		return parseAll(f, items, parseNetwork)
	default:
		panic(fmt.Sprintf("config: no parser for %T", field))
	}
}

// formatField is the inverse of assignField.
func formatField(field any) []string {
	switch f := field.(type) {
	case *string:
		return []string{*f}
	case *secret.Text:
		return []string{f.Reveal()}
	case *bool:
		return []string{strconv.FormatBool(*f)}
	case *int:
		return []string{strconv.Itoa(*f)}
	case *time.Duration:
		return []string{formatDuration(*f)}
	case *[]string:
		return *f
	case *[]secret.Text:
		return formatAll(*f, secret.Text.Reveal)
	case *[]time.Duration:
		return formatAll(*f, formatDuration)
	case *[]uint16:
		return formatAll(*f, func(p uint16) string { return strconv.Itoa(int(p)) })
	case *[]netip.Prefix:
		return formatAll(*f, netip.Prefix.String)
	default:
		panic(fmt.Sprintf("config: no formatter for %T", field))
	}
}

func kindOf(field any) Kind {
	switch field.(type) {
	case *bool:
		return Bool
	case *int, *[]uint16:
		return Integer
	case *time.Duration, *[]time.Duration:
		return Duration
	case *[]netip.Prefix:
		return Network
	default:
		return Text
	}
}

func isList(field any) bool {
	switch field.(type) {
	case *[]string, *[]secret.Text, *[]time.Duration, *[]uint16, *[]netip.Prefix:
		return true
	default:
		return false
	}
}

func parseOne[T any](field *T, item string, parse func(string) (T, error)) error {
	v, err := parse(item)
	if err != nil {
		return err
	}
	*field = v
	return nil
}

func parseAll[T any](field *[]T, items []string, parse func(string) (T, error)) error {
	out := make([]T, 0, len(items))
	var errs []error
	for _, item := range items {
		v, err := parse(item)
		errs = append(errs, err)
		out = append(out, v)
	}
	*field = out
	return errors.Join(errs...)
}

func formatAll[T any](list []T, format func(T) string) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		out = append(out, format(v))
	}
	return out
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

func parseInt(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port: give a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err == nil:
		return d, nil
	case len(s) > 0 && strings.Trim(s, "0123456789") == "":
		return 0, fmt.Errorf("%q has no unit: write it like %ss or %sm", s, s, s)
	case strings.HasSuffix(s, "d"):
		return 0, fmt.Errorf("%q: a day is not a unit here: write 24h for one day", s)
	default:
		return 0, fmt.Errorf("%q is not a duration: write it like 500ms, 90s, 5m or 120h", s)
	}
}

func parseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			return netip.Prefix{}, fmt.Errorf("%q has no length: write %s/%d for this address alone", s, a, a.BitLen())
		}
		return netip.Prefix{}, fmt.Errorf("%q is not a network: write it like 10.1.0.0/16 or fd00::/8", s)
	}
	return p.Masked(), nil
}

func parseSecret(s string) (secret.Text, error) {
	var t secret.Text
	err := t.UnmarshalText([]byte(s))
	return t, err
}

// formatDuration is Duration.String without superfluous zeros: 120h, not 120h0m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
