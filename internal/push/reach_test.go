package push_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/push"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/wire/wiretest"
)

// reach notes what it is told.
type reach struct {
	mu   sync.Mutex
	told []string
}

func (r *reach) NoteAnswer(host string)  { r.note("answered " + host) }
func (r *reach) NoteFailure(host string) { r.note("failed " + host) }

func (r *reach) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, text)
}

// answers answers each post alike.
type answers struct {
	status int
	err    error
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.err != nil {
		return nil, a.err
	}
	return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

// Any HTTP answer is one; whatever else came of a post is a failure on the connection, unless the post was never sent there.
func TestReach(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answers
		url  string
		want string
	}{
		"Delivered":   {answers{status: 204}, "https://partner.example/hook", "answered partner.example"},
		"Port":        {answers{status: 204}, "https://partner.example:8443/hook", "answered partner.example:8443"},
		"Refused":     {answers{status: 422}, "https://partner.example/hook", "answered partner.example"},
		"Failing":     {answers{status: 503}, "https://partner.example/hook", "answered partner.example"},
		"Gone":        {answers{status: 410}, "https://partner.example/hook", "answered partner.example"},
		"NoListener":  {answers{err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "https://partner.example/hook", "failed partner.example"},
		"NoRoute":     {answers{err: os.NewSyscallError("connect", syscall.ENETUNREACH)}, "https://partner.example/hook", "failed partner.example"},
		"NoSuchName":  {answers{err: &net.DNSError{Name: "partner.example", IsNotFound: true}}, "https://partner.example/hook", "failed partner.example"},
		"NoResolver":  {answers{err: &net.DNSError{Name: "partner.example", IsTemporary: true}}, "https://partner.example/hook", "failed partner.example"},
		"Timeout":     {answers{err: os.ErrDeadlineExceeded}, "https://partner.example/hook", "failed partner.example"},
		"Certificate": {answers{err: x509.UnknownAuthorityError{}}, "https://partner.example/hook", "failed partner.example"},
		"ClosedEarly": {answers{err: io.EOF}, "https://partner.example/hook", "failed partner.example"},
		"InnerHost":   {answers{err: &guard.BlockedError{Reason: guard.ReasonPrivate}}, "https://partner.example/hook", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &reach{}
			p := push.New(push.Options{Wire: wiretest.Over{RoundTripper: tc.answers}, Check: url.Parse, Tokens: &tokens{}, Timeout: time.Minute, Reach: r})
			p.Post(t.Context(), target(t, tc.url), message(tenant.Suspend))
			if got := strings.Join(r.told, ", "); got != tc.want {
				t.Errorf("told %q, want %q", got, tc.want)
			}
		})
	}
	for name, p := range map[string]push.Options{
		"NoToken":   {Check: url.Parse, Tokens: &tokens{err: errors.New("no key")}},
		"Forbidden": {Check: func(string) (*url.URL, error) { return nil, &guard.BlockedError{Reason: guard.ReasonPrivate} }, Tokens: &tokens{}},
	} {
		r := &reach{}
		p.Reach, p.Timeout, p.Wire = r, time.Minute, wiretest.Over{RoundTripper: answers{status: 204}}
		push.New(p).Post(t.Context(), target(t, "https://partner.example/hook"), message(tenant.Suspend))
		if len(r.told) > 0 {
			t.Errorf("%s: told %v", name, r.told)
		}
	}
	r := &reach{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := push.New(push.Options{Wire: wiretest.Over{RoundTripper: answers{err: context.Canceled}}, Check: url.Parse, Tokens: &tokens{}, Timeout: time.Minute, Reach: r})
	p.Post(ctx, target(t, "https://partner.example/hook"), message(tenant.Suspend))
	if len(r.told) > 0 {
		t.Errorf("a post that was given up told %v", r.told)
	}
}
