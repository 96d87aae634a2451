package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAnswer limits an answer; a page of 500 apps is about 2 MB.
	maxAnswer = 32 << 20
	// firstPause is the wait before the first repetition; it doubles each time.
	firstPause = 250 * time.Millisecond
	// longestPause bounds the wait between repetitions, whatever Retry-After says.
	longestPause = 30 * time.Second
	// idlePerHost is above any concurrency of the command line.
	idlePerHost = 64
)

// Options say where the API is and who calls.
type Options struct {
	// URL is the API's base, http or https.
	URL string
	// Token is a bearer token, already checked for what a header may hold.
	Token string
	// UserAgent names the caller.
	UserAgent string
	// Timeout bounds one attempt with its answer; 0 means that only the context bounds it.
	Timeout time.Duration
	// Attempts is how often a repeatable request is tried; 0 means once.
	Attempts int
	// Pause waits between attempts; nil waits on a timer. For tests.
	Pause func(ctx context.Context, d time.Duration) error
	// Retrying is called before each repetition; it may be nil.
	Retrying func(err error, pause time.Duration)
}

// Client is safe for concurrent use.
type Client struct {
	opts Options
	base *url.URL
	http *http.Client
}

// ErrURL reports a base URL that cannot be used.
var ErrURL = errors.New("the URL of the admin API must be an http or https URL without user and password")

// New makes a Client. Errors: ErrURL.
func New(opts Options) (*Client, error) {
	base, err := url.Parse(opts.URL)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || base.User != nil {
		return nil, ErrURL
	}
	base.RawQuery, base.Fragment = "", ""
	if opts.Pause == nil {
		opts.Pause = sleepFor
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: idlePerHost, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
	}
	return &Client{opts: opts, base: base, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// JoinPath joins segments to the path of a resource; each is escaped.
func JoinPath(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		if s == "." || s == ".." {
			s = strings.ReplaceAll(s, ".", "%2E") // no path upwards
		} else {
			s = url.PathEscape(s)
		}
		b.WriteString("/" + s)
	}
	return b.String()
}

// Request is one call of the API.
type Request struct {
	Method string
	// Path is a result of JoinPath.
	Path  string
	Query url.Values
	// Body is sent as Type, application/json when that is empty. Nil sends none.
	Body []byte
	Type string
	// IfMatch and IfNoneMatch are preconditions, IdempotencyKey makes a POST repeatable.
	IfMatch, IfNoneMatch, IdempotencyKey string
}

// Answer is a successful answer.
type Answer struct {
	Status int
	ETag   string
	// Location is the URL of what was created or is being done; empty for none.
	Location string
	// Type is its media type.
	Type string
	// Replayed is true when the answer was given before, under the same idempotency key.
	Replayed bool
	Body     []byte
}

// isIdempotent reports whether repeating the request changes nothing more.
func (r *Request) isIdempotent() bool {
	switch r.Method {
	case http.MethodGet, http.MethodPut, http.MethodDelete:
		return true
	case http.MethodPatch:
		return r.IfMatch != ""
	default:
		return r.IdempotencyKey != ""
	}
}

// Do sends a request and returns the answer, or an error: *Refusal when the service refused, *NoAnswer when no answer
// came, ErrUnexpectedAnswer when another server answered.
func (c *Client) Do(ctx context.Context, r Request) (Answer, error) {
	attempts := max(c.opts.Attempts, 1)
	if !r.isIdempotent() {
		attempts = 1
	}
	for n := 1; ; n++ {
		answer, err := c.sendOnce(ctx, r)
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			refusal.Attempt = n
		}
		if err == nil || n == attempts || ctx.Err() != nil || !isRetryable(err) {
			return answer, err
		}
		d := computeRetryDelay(err, n)
		if c.opts.Retrying != nil {
			c.opts.Retrying(err, d)
		}
		if e := c.opts.Pause(ctx, d); e != nil {
			return Answer{}, err
		}
	}
}

func (c *Client) sendOnce(ctx context.Context, r Request) (Answer, error) {
	if c.opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.opts.Timeout, fmt.Errorf("nothing came within %s", c.opts.Timeout))
		defer cancel()
	}
	var body io.Reader = http.NoBody
	if r.Body != nil {
		body = bytes.NewReader(r.Body)
	}
	req, err := c.newRequest(ctx, r, body)
	if err != nil {
		return Answer{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Answer{}, newNoAnswer(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return Answer{}, newNoAnswer(ctx, err)
	}
	if len(text) > maxAnswer {
		return Answer{}, fmt.Errorf("the answer is longer than %d bytes: %w", maxAnswer, ErrUnexpectedAnswer)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return Answer{}, parseRefusal(resp, text)
	}
	return Answer{
		Status: resp.StatusCode, ETag: resp.Header.Get("ETag"), Location: resp.Header.Get("Location"), Type: resp.Header.Get("Content-Type"),
		Replayed: resp.Header.Get("Idempotent-Replayed") == "true", Body: text,
	}, nil
}

func (c *Client) newRequest(ctx context.Context, r Request, body io.Reader) (*http.Request, error) {
	target := strings.TrimSuffix(c.base.String(), "/") + r.Path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, body)
	if err != nil {
		return nil, err
	}
	h := req.Header
	h.Set("Authorization", "Bearer "+c.opts.Token)
	h.Set("User-Agent", c.opts.UserAgent)
	for name, value := range map[string]string{"If-Match": r.IfMatch, "If-None-Match": r.IfNoneMatch, "Idempotency-Key": r.IdempotencyKey} {
		if value != "" {
			h.Set(name, value)
		}
	}
	if body != http.NoBody {
		h.Set("Content-Type", r.Type)
		if r.Type == "" {
			h.Set("Content-Type", "application/json")
		}
	}
	return req, nil
}

// isRetryable reports whether the same request may succeed later.
func isRetryable(err error) bool {
	if _, ok := errors.AsType[*NoAnswer](err); ok {
		return true
	}
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		return false
	}
	switch r.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// computeRetryDelay is the pause before attempt n+1: what the service asked for, otherwise a doubling one.
func computeRetryDelay(err error, n int) time.Duration {
	if r, ok := errors.AsType[*Refusal](err); ok && r.RetryAfter > 0 {
		return min(r.RetryAfter, longestPause)
	}
	return min(firstPause<<min(n-1, 10), longestPause)
}

func sleepFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// parseRetryAfter reads the header's seconds; the API sends no dates.
func parseRetryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 24*3600)) * time.Second
}
