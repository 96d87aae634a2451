package secret_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/secret"
)

func TestRedactURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://partner.example/hook":                  "https://partner.example/hook",
		"https://partner.example:8443/a%20b/c":          "https://partner.example:8443/a%20b/c",
		"https://kim:pw@partner.example/hook?key=1#pw2": "https://[redacted]@partner.example/hook?[redacted]#[redacted]",
		"https://token@partner.example":                 "https://[redacted]@partner.example",
		"https://partner.example?sas":                   "https://partner.example?[redacted]",
		"https://[2001:db8::1]:8443/x?y":                "https://[2001:db8::1]:8443/x?[redacted]",
		"/hook?key=1":                                   "/hook?[redacted]",
		"mailto:kim@partner.example":                    "mailto:[redacted]",
		"https://h%E2%80%AEost/":                        "https://host/",
		"https://kim:pa ss@host:bad/":                   "[unreadable URL]",
		"https://h/%zz?pw":                              "[unreadable URL]",
		"":                                              "",
	} {
		if got := secret.RedactURL(in); got != want {
			t.Errorf("RedactURL(%q) = %q, want %q", in, got, want)
		}
		if got := secret.RedactURL(want); want != "[unreadable URL]" && got != want {
			t.Errorf("RedactURL(%q) = %q, want no change", want, got)
		}
	}
}

const loudURL = "https://kim:hunter2@partner.example/hook?key=hunter2#hunter2"

func TestRedactErrorHidesURLs(t *testing.T) {
	t.Parallel()
	_, parseErr := url.Parse("https://kim:hunter2 x@partner.example:" + strings.ToLower("HUNTER2/"))
	inner := &url.Error{Op: "Post", URL: loudURL, Err: io.ErrUnexpectedEOF}
	for name, err := range map[string]error{
		"Plain":       inner,
		"Wrapped":     fmt.Errorf("push to %s: %w", loudURL, inner),
		"WrappedURL":  fmt.Errorf("second try: %w", fmt.Errorf("push: %w", inner)),
		"NoURLError":  errors.New("cannot reach " + loudURL),
		"Parse":       fmt.Errorf("read settings: %w", parseErr),
		"Location":    &url.Error{Op: "Post", URL: loudURL, Err: errors.New(`failed to parse Location header "https://x.example/?hunter2"`)},
		"QuotedForms": fmt.Errorf("push %q: %w", "https://x.example/\"hunter2\"", io.EOF),
	} {
		raw := loudURL
		if name == "QuotedForms" {
			raw = "https://x.example/\"hunter2\""
		}
		got := secret.RedactError(err, raw)
		for e := got; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(strings.ReplaceAll(e.Error(), "%22hunter2%22", ""), "hunter2") {
				t.Errorf("%s: %T shows %s", name, e, e)
			}
		}
		if ue, ok := errors.AsType[*url.Error](got); ok && strings.Contains(ue.Error(), "hunter2") {
			t.Errorf("%s: As leads to %s", name, ue)
		}
		if ne, ok := errors.AsType[net.Error](got); ok && strings.Contains(ne.Error(), "hunter2") {
			t.Errorf("%s: As(net.Error) leads to %s", name, ne)
		}
	}
	want := `push to https://[redacted]@partner.example/hook?[redacted]#[redacted]: Post "https://[redacted]@partner.example/hook?[redacted]#[redacted]": unexpected EOF`
	if got := secret.RedactError(fmt.Errorf("push to %s: %w", loudURL, inner), loudURL).Error(); got != want {
		t.Errorf("text = %s\nwant   %s", got, want)
	}
}

func TestRedactErrorKeepsTheChain(t *testing.T) {
	t.Parallel()
	op := &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	err := secret.RedactError(fmt.Errorf("push: %w", &url.Error{Op: "Post", URL: loudURL, Err: op}), loudURL)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) {
		t.Error("errors.Is does not find the cause")
	}
	if got, ok := errors.AsType[*net.OpError](err); !ok || got != op {
		t.Errorf("errors.As finds %v", got)
	}
	if ue, ok := errors.AsType[*url.Error](err); !ok || !ue.Timeout() {
		t.Errorf("the *url.Error is %v", ue)
	}
	if te, ok := err.(interface{ Timeout() bool }); !ok || !te.Timeout() {
		t.Error("a timeout is not reported as one")
	}
	plain := secret.RedactError(io.EOF, loudURL)
	if !errors.Is(plain, io.EOF) || plain.Error() != "EOF" {
		t.Errorf("without a *url.Error: %v", plain)
	}
	if secret.RedactError(nil, loudURL) != nil {
		t.Error("nil became an error")
	}
}

func TestRedactErrorOfARealCall(t *testing.T) {
	t.Parallel()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://kim:hunter2@127.0.0.1:1/hook?key=hunter2", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{}}).Do(req)
	if err == nil {
		_ = resp.Body.Close()
		t.Fatal("port 1 answered")
	}
	if got := secret.RedactError(err, req.URL.String()); strings.Contains(got.Error(), "hunter2") {
		t.Errorf("shows %s", got)
	}
}

func TestRedactText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                    "",
		"no URL":                              "no URL",
		"https://h.example/a?code='s3cret<1>": "https://h.example/a?[redacted]",
		"HTTPS://h.example/?s3cret":           "https://h.example/?[redacted]",
		"see https://h.example/?k=s3cret, then http://i.example/b": "see https://h.example/?[redacted], then http://i.example/b",
	} {
		if got := secret.RedactText(in); got != want {
			t.Errorf("RedactText(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzRedactURL(f *testing.F) {
	f.Add("kim", "hunter2", "partner.example", "/p", "q=hunter2")
	f.Fuzz(func(t *testing.T, user, pass, host, path, query string) {
		u := url.URL{Scheme: "https", User: url.UserPassword(user, "S3CRET"+pass), Host: host, Path: path, RawQuery: "S3CRET" + query}
		if strings.Contains(host+path, "S3CRET") {
			return
		}
		got := secret.RedactURL(u.String())
		if strings.Contains(got, "S3CRET") {
			t.Errorf("RedactURL(%q) = %q", u.String(), got)
		}
		if strings.ContainsAny(got, "\x00\n\r\x1b\u202e") {
			t.Errorf("RedactURL(%q) = %q holds control characters", u.String(), got)
		}
	})
}
