package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/signing"
	"github.com/lamplighter/lamplighter/internal/wire"
)

// Target is where and how an app is notified.
type Target struct {
	ClientID       partner.ClientID
	URL            string
	TokenAlgorithm partner.TokenAlgorithm
	// WebhookKeys sign in this order; there is more than one while a secret rotates.
	WebhookKeys []signing.WebhookKey
}

// Tokens makes the token of an attempt.
type Tokens interface {
	MakeToken(clientID, tenant, alg string, now time.Time) (string, error)
}

// Wire sends one request and passes its answer on; *wire.Client is one.
type Wire interface {
	Do(ctx context.Context, r *wire.Request, read func(*http.Response)) error
}

// ReachRecorder records which hosts gave an HTTP answer and which gave none. The host includes the port if the URL
// does.
type ReachRecorder interface {
	NoteAnswer(host string)
	NoteFailure(host string)
}

// discardReach records nothing.
type discardReach struct{}

// NoteAnswer does nothing.
func (discardReach) NoteAnswer(string) {}

// NoteFailure does nothing.
func (discardReach) NoteFailure(string) {}

// Options of a Pusher.
type Options struct {
	// Wire connects only to permitted addresses.
	Wire Wire
	// Check normalizes an endpoint's URL and checks it again: the rules may have changed since it was set. It returns
	// a *guard.BlockedError for a URL that is refused.
	Check  func(rawURL string) (*url.URL, error)
	Tokens Tokens
	// Timeout bounds one attempt from the first byte sent to the last one read.
	Timeout time.Duration
	// Version is named in the User-Agent.
	Version string
	// Reach may be nil.
	Reach ReachRecorder
}

// Limits on the excerpt of an answer that partners and operators see; package wire limits the rest.
const (
	maxExcerptRead = 2 << 10
	maxExcerpt     = 200
	maxDetail      = 400
)

// Pusher posts notifications. It is safe for concurrent use.
type Pusher struct {
	opts Options
	// fixed holds the header lines that never change.
	fixed  string
	faults *ownFaults

	mu           sync.RWMutex
	destinations map[string]*wire.Destination
	buffers      sync.Pool
}

// maxDestinations limits the prepared URLs. At the limit they are dropped and prepared again.
const maxDestinations = 20_000

// requestBuffer is the memory that an attempt is written into.
type requestBuffer struct{ header, body []byte }

// New returns a Pusher.
func New(opts Options) *Pusher {
	if opts.Reach == nil {
		opts.Reach = discardReach{}
	}
	return &Pusher{
		opts: opts, fixed: "Content-Type: application/json; charset=utf-8\r\nUser-Agent: Lamplighter/" + opts.Version + "\r\n",
		faults: newOwnFaults(), destinations: map[string]*wire.Destination{},
		buffers: sync.Pool{New: func() any { return &requestBuffer{} }},
	}
}

var (
	errTimeout  = errors.New("no answer within the request timeout")
	errShutdown = errors.New("shutting down")
)

// prepareDestination prepares an endpoint's URL once. The error is a *guard.BlockedError, or says that the text is
// not a URL.
func (p *Pusher) prepareDestination(rawURL string) (*wire.Destination, error) {
	p.mu.RLock()
	d := p.destinations[rawURL]
	p.mu.RUnlock()
	if d != nil {
		return d, nil
	}
	u, err := p.opts.Check(rawURL)
	if err != nil {
		return nil, fmt.Errorf("check the URL: %w", err)
	}
	if d, err = wire.NewDestination(u); err != nil {
		return nil, fmt.Errorf("read the URL: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.destinations) >= maxDestinations {
		clear(p.destinations)
	}
	p.destinations[rawURL] = d
	return d, nil
}

// Post makes one attempt and reads the answer. It returns within the timeout. A canceled ctx aborts it, and the
// result then counts against no endpoint.
func (p *Pusher) Post(ctx context.Context, t Target, m delivery.Message) delivery.Result {
	start := time.Now()
	r := p.postNotification(ctx, t, m, start)
	r.Duration = time.Since(start)
	return r
}

func (p *Pusher) postNotification(ctx context.Context, t Target, m delivery.Message, now time.Time) delivery.Result {
	to, err := p.prepareDestination(t.URL)
	if err != nil {
		if _, blocked := errors.AsType[*guard.BlockedError](err); blocked {
			return p.classifyFailure(ctx, t.URL, "", err, now, now)
		}
		return newServiceFault("prepare the request: " + secret.RedactError(err, t.URL).Error())
	}
	token, err := p.opts.Tokens.MakeToken(string(t.ClientID), string(m.Change.Tenant), string(t.TokenAlgorithm), now)
	if err != nil {
		return newServiceFault("make the Token: " + err.Error())
	}
	buf := p.buffers.Get().(*requestBuffer)
	defer p.buffers.Put(buf)
	buf.body = appendBody(buf.body[:0], m, token)
	buf.header = p.appendHeader(buf.header[:0], t, m, buf.body, now)
	deadline := now.Add(p.opts.Timeout)
	var r delivery.Result
	err = p.opts.Wire.Do(ctx, &wire.Request{To: to, Header: buf.header, Body: buf.body, Deadline: deadline}, func(resp *http.Response) {
		r = delivery.ClassifyStatus(resp.StatusCode)
		if r.Outcome != delivery.Delivered {
			r.RetryAfter = readRetryAfter(r, resp.Header, now)
			r.Detail = "HTTP status " + strconv.Itoa(resp.StatusCode)
			r.Excerpt = readExcerpt(resp.Body)
		}
	})
	if err != nil {
		return p.classifyFailure(ctx, t.URL, to.Host(), err, now, deadline)
	}
	p.faults.noteAnswer(to.Host(), now)
	p.opts.Reach.NoteAnswer(to.Host())
	return r
}

func (p *Pusher) appendHeader(h []byte, t Target, m delivery.Message, payload []byte, now time.Time) []byte {
	h = append(h, p.fixed...)
	h = append(append(h, "webhook-id: "...), m.WebhookID...)
	h = strconv.AppendInt(append(h, "\r\nwebhook-timestamp: "...), now.Unix(), 10)
	if len(t.WebhookKeys) > 0 {
		h = append(h, "\r\nwebhook-signature: "...)
		h = signing.AppendWebhookSignature(h, t.WebhookKeys, m.WebhookID, now, payload)
	}
	h = strconv.AppendInt(append(h, "\r\nx-state-sequence: "...), m.Sequence, 10)
	h = strconv.AppendInt(append(h, "\r\nx-state-superseded: "...), m.Superseded, 10)
	return append(h, "\r\n"...)
}

func readRetryAfter(r delivery.Result, h http.Header, now time.Time) time.Duration {
	if !r.Wait {
		return 0
	}
	return delivery.ParseRetryAfter(h.Get("Retry-After"), now)
}

// readExcerpt reads the beginning of a refusal's body, for partners and operators.
func readExcerpt(body io.Reader) string {
	head, _ := io.ReadAll(io.LimitReader(body, maxExcerptRead))
	return secret.MakeExcerpt(head, maxExcerpt)
}

func newServiceFault(detail string) delivery.Result {
	return delivery.Result{Outcome: delivery.Aborted, Reason: delivery.ReasonOwnFault, Fault: delivery.FaultOwn, Detail: detail}
}

// classifyFailure reads the error of an attempt that had until deadline. caller is the context that may have aborted
// it.
func (p *Pusher) classifyFailure(caller context.Context, rawURL, host string, err error, now, deadline time.Time) delivery.Result {
	timedOut := deadline.After(now) && !time.Now().Before(deadline)
	if !timedOut && caller.Err() != nil {
		return newServiceFault(errShutdown.Error())
	}
	r := classifyError(err)
	// the error quotes what an endpoint answers instead of HTTP, up to the size of a whole header
	r.Detail = secret.MakeExcerpt([]byte(secret.RedactError(err, rawURL).Error()), maxDetail)
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.Server != "" {
		// the resolver's address is not for partners
		r.Detail = strings.ReplaceAll(r.Detail, " on "+dns.Server, "")
	}
	// a resolver that took all the time is the service's own fault
	if dns, ok := errors.AsType[*net.DNSError](err); timedOut && (!ok || dns.IsNotFound) {
		r = newEndpointFault(delivery.ReasonTimeout)
		r.Detail = errTimeout.Error()
	}
	if r.Reason != delivery.ReasonBlockedAddress {
		p.opts.Reach.NoteFailure(host)
	}
	if r.Fault != delivery.FaultOwn {
		p.faults.noteReached(host)
	} else if p.faults.recordFault(host, now) {
		r.Outcome, r.Reason, r.Fault = delivery.Retryable, reasonForHost(err), delivery.FaultEndpoint
	}
	return r
}
