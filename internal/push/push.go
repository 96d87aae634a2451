package push

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// Target is where and how an app is told.
type Target struct {
	ClientID       partner.ClientID
	URL            string
	TokenAlgorithm partner.TokenAlgorithm
	// WebhookKeys sign in this order; more than one while a secret rotates.
	WebhookKeys []signing.WebhookKey
}

// Tokens makes the Token of an attempt. It may hand out one made earlier for the same app and
// tenant while that outlives mustOutlive.
type Tokens interface {
	For(clientID, tenant, alg string, now time.Time, mustOutlive time.Duration) (string, error)
}

// Options of a Pusher.
type Options struct {
	// Client carries the guard, refuses redirects and has no timeout of its own.
	Client *http.Client
	Tokens Tokens
	// Timeout bounds one attempt from the first byte sent to the last one read.
	Timeout time.Duration
	// Version is named in the User-Agent.
	Version string
}

// Limits on what is read of an answer: enough for a message to people, and to reuse the
// connection after an ordinary answer.
const (
	maxExcerptRead = 2 << 10
	maxExcerpt     = 200
	maxDrain       = 64 << 10
	// drainWithin is how long an answer's body may take once its status is known: the outcome is
	// decided, and a body that trickles must not hold the slot.
	drainWithin = time.Second
	// clockLeeway is how far ahead a receiver's clock may be without a reused Token having expired
	// there.
	clockLeeway = time.Minute
)

// Pusher posts notifications. It is safe for concurrent use.
type Pusher struct {
	opts      Options
	userAgent string
	faults    *ownFaults
}

// New returns a Pusher.
func New(opts Options) *Pusher {
	return &Pusher{opts: opts, userAgent: "Lamplighter/" + opts.Version, faults: newOwnFaults()}
}

var (
	errTimeout  = errors.New("no answer within the request timeout")
	errEndless  = errors.New("answer's body took too long")
	errShutdown = errors.New("shutting down")
)

// Post makes one attempt and reads the answer. It does not outlast the timeout. A canceled ctx
// aborts it, which counts against nobody.
func (p *Pusher) Post(ctx context.Context, t Target, m delivery.Message) delivery.Result {
	start := time.Now()
	r := p.attempt(ctx, t, m, start)
	r.Duration = time.Since(start)
	return r
}

func (p *Pusher) attempt(ctx context.Context, t Target, m delivery.Message, now time.Time) delivery.Result {
	token, err := p.opts.Tokens.For(string(t.ClientID), string(m.Change.Tenant), string(t.TokenAlgorithm), now, p.opts.Timeout+clockLeeway)
	if err != nil {
		return own("make the Token: " + err.Error())
	}
	payload, err := body(m, token)
	if err != nil {
		return own(err.Error())
	}
	caller := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, p.opts.Timeout, errTimeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(payload))
	if err != nil {
		return own("build the request: " + secret.RedactError(err, t.URL).Error())
	}
	p.headers(req.Header, t, m, payload, now)
	resp, err := p.opts.Client.Do(req)
	if err != nil {
		return p.failed(caller, ctx, t.URL, req.URL.Host, err, now)
	}
	defer func() { _ = resp.Body.Close() }()
	p.faults.answered(req.URL.Host, now)
	r := delivery.ClassifyStatus(resp.StatusCode)
	if r.Outcome != delivery.Delivered {
		r.RetryAfter = retryAfter(r, resp.Header, now)
		r.Detail = "HTTP status " + strconv.Itoa(resp.StatusCode)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return r // the body is the bare connection, which no context ends
	}
	timer := time.AfterFunc(drainWithin, func() { stop(errEndless) })
	defer timer.Stop()
	r.Excerpt = excerpt(r, resp.Body)
	return r
}

func (p *Pusher) headers(h http.Header, t Target, m delivery.Message, payload []byte, now time.Time) {
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("User-Agent", p.userAgent)
	h["webhook-id"] = []string{m.WebhookID}
	h["webhook-timestamp"] = []string{strconv.FormatInt(now.Unix(), 10)}
	if len(t.WebhookKeys) > 0 {
		h["webhook-signature"] = []string{signing.SignWebhook(t.WebhookKeys, m.WebhookID, now, payload)}
	}
	h["x-state-sequence"] = []string{strconv.FormatInt(m.Sequence, 10)}
	h["x-state-superseded"] = []string{strconv.FormatInt(m.Superseded, 10)}
}

func retryAfter(r delivery.Result, h http.Header, now time.Time) time.Duration {
	if !r.Wait {
		return 0
	}
	return delivery.RetryAfter(h.Get("Retry-After"), now)
}

// excerpt reads the body: a piece of a refusal for people, and a bounded rest so that the
// connection can serve again. What it cannot read in time is closed with the connection.
func excerpt(r delivery.Result, b io.Reader) string {
	text := ""
	if r.Outcome != delivery.Delivered {
		head, _ := io.ReadAll(io.LimitReader(b, maxExcerptRead))
		text = secret.Excerpt(head, maxExcerpt)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(b, maxDrain))
	return text
}

func own(detail string) delivery.Result {
	return delivery.Result{Outcome: delivery.Aborted, Reason: delivery.ReasonOwnFault, Fault: delivery.FaultOwn, Detail: detail}
}

// failed reads the error of a request made under ctx, which adds the request timeout to caller's.
func (p *Pusher) failed(caller, ctx context.Context, url, host string, err error, now time.Time) delivery.Result {
	timedOut := errors.Is(context.Cause(ctx), errTimeout)
	if !timedOut && caller.Err() != nil {
		return own(errShutdown.Error())
	}
	r := classify(err)
	r.Detail = secret.RedactError(err, url).Error()
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.Server != "" {
		// whom the service asks is none of a partner's business
		r.Detail = strings.ReplaceAll(r.Detail, " on "+dns.Server, "")
	}
	if timedOut {
		r = endpoint(delivery.ReasonTimeout)
		r.Detail = errTimeout.Error()
	}
	if r.Fault != delivery.FaultOwn {
		p.faults.reached(host)
	} else if p.faults.blame(host, now) {
		r.Outcome, r.Reason, r.Fault = delivery.Retryable, ownReason(err), delivery.FaultEndpoint
	}
	return r
}
