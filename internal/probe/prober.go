package probe

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/soap"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Target is what one probe calls.
type Target struct {
	ClientID partner.ClientID
	Kind     partner.EndpointKind
	URL      string
	// Tenant is the tenant for which a mirroring endpoint is called; empty when there is none.
	Tenant tenant.ID
	// TokenAlgorithm and Keys are the app's: how the token is signed, and the keys that check the answer. Only
	// mirroring needs them.
	TokenAlgorithm partner.TokenAlgorithm
	Keys           []*rsa.PublicKey
}

// Tokens makes a token that carries a nonce.
type Tokens interface {
	MakeNoncedToken(clientID, tenant, alg string, now time.Time) (token, nonce string, err error)
}

// ReachRecorder records which hosts gave an HTTP answer, which gave none, and the address of a host. The host
// includes the port if the URL does.
type ReachRecorder interface {
	NoteAddress(host string, at netip.Addr)
	NoteAnswer(host string)
	NoteFailure(host string)
}

// discardReach records nothing.
type discardReach struct{}

// NoteAddress does nothing.
func (discardReach) NoteAddress(string, netip.Addr) {}

// NoteAnswer does nothing.
func (discardReach) NoteAnswer(string) {}

// NoteFailure does nothing.
func (discardReach) NoteFailure(string) {}

// ProberOptions configure a Prober.
type ProberOptions struct {
	// Client carries the guard, refuses redirects and has no timeout of its own. Each connection should be made with
	// a full TLS handshake; otherwise an old certificate may be seen.
	Client *http.Client
	Tokens Tokens
	// Timeout bounds one probe from the first byte sent to the last one read.
	Timeout time.Duration
	// Tolerance is how far the clock behind a signed answer may be off.
	Tolerance time.Duration
	// Version is named in the User-Agent.
	Version string
	// Reach may be nil.
	Reach ReachRecorder
}

// Prober probes endpoints. It is safe for concurrent use.
type Prober struct {
	opts      ProberOptions
	userAgent string
	// answered is when any endpoint was last reached, in ms since 1970.
	answered atomic.Int64
}

// NewProber returns a Prober.
func NewProber(opts ProberOptions) *Prober {
	if opts.Reach == nil {
		opts.Reach = discardReach{}
	}
	return &Prober{opts: opts, userAgent: "Lamplighter/" + opts.Version}
}

// AnsweredSince reports whether any endpoint was reached since the given time.
func (p *Prober) AnsweredSince(at time.Time) bool {
	ms := p.answered.Load()
	return ms != 0 && ms > at.UnixMilli()
}

var errTimeout = errors.New("no complete answer within the timeout")

// Limits on the excerpt of an answer that partners and operators see, as with notifications.
const (
	maxExcerpt  = 200
	excerptRead = 2 << 10
)

// Probe makes one call and returns what it found. It returns within the timeout. A canceled ctx ends it as an own
// fault.
func (p *Prober) Probe(ctx context.Context, t Target) health.Finding {
	start := time.Now()
	f := p.probeEndpoint(ctx, &t, start)
	f.Duration = time.Since(start)
	return f
}

func (p *Prober) probeEndpoint(ctx context.Context, t *Target, now time.Time) health.Finding {
	if t.Kind == partner.Mirroring && t.Tenant == "" {
		return newFinding(t, health.NoTenant, 0, "")
	}
	call, nonce, err := p.chooseRequest(t, now)
	if err != nil {
		return newFinding(t, health.OwnFault, 0, "no token could be made")
	}
	caller := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, p.opts.Timeout, errTimeout)
	defer cancel()
	w := &requestTrace{}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, w.clientTrace()), http.MethodPost, t.URL, bytes.NewReader(call.Body))
	if err != nil {
		return newFinding(t, health.OwnFault, 0, "the request could not be built")
	}
	req.Header.Set("Content-Type", soap.ContentType)
	req.Header.Set("User-Agent", p.userAgent)
	req.Header["SOAPAction"] = []string{call.Action} // the spelling that case-sensitive servers expect
	req.Close = true                                 // the next probe follows minutes later
	resp, err := p.opts.Client.Do(req)
	if at := w.lastAddress(); at.IsValid() {
		p.opts.Reach.NoteAddress(req.URL.Host, at)
	}
	if err != nil {
		late := errors.Is(context.Cause(ctx), errTimeout)
		r, note := classifyError(err, w, late, caller.Err() != nil)
		if r != health.BlockedAddress && (late || caller.Err() == nil) {
			p.opts.Reach.NoteFailure(req.URL.Host)
		}
		if r != health.OwnFault && r != health.BlockedAddress {
			p.answered.Store(now.UnixMilli())
		}
		f := newFinding(t, r, 0, note)
		f.CertificateFrom, f.CertificateEnds = w.certificateValidity()
		f.Blame = w.reasonForEndpoint(err)
		return f
	}
	defer func() { _ = resp.Body.Close() }()
	p.answered.Store(now.UnixMilli())
	p.opts.Reach.NoteAnswer(req.URL.Host)
	a := answer{status: resp.StatusCode, contentType: resp.Header.Get("Content-Type"), compressed: resp.Header.Get("Content-Encoding") != ""}
	if a.status != http.StatusSwitchingProtocols { // its body is the bare connection, which ignores the context
		a.body, a.err = io.ReadAll(io.LimitReader(resp.Body, soap.MaxAnswer+1))
	}
	if a.err != nil && caller.Err() != nil && !errors.Is(context.Cause(ctx), errTimeout) {
		return newFinding(t, health.OwnFault, 0, "the service is shutting down")
	}
	a.late = errors.Is(context.Cause(ctx), errTimeout)
	f := p.judgeAnswer(t, &a, nonce)
	f.CertificateFrom, f.CertificateEnds = w.certificateValidity()
	return f
}

// chooseRequest chooses the call for an endpoint.
func (p *Prober) chooseRequest(t *Target, now time.Time) (call soap.Request, nonce string, err error) {
	switch t.Kind {
	case partner.Mirroring:
		token, nonce, err := p.opts.Tokens.MakeNoncedToken(string(t.ClientID), string(t.Tenant), string(t.TokenAlgorithm), now)
		if err != nil {
			return soap.Request{}, "", err
		}
		return soap.NewAuthenticate(token), nonce, nil
	case partner.QuoteConnector:
		return soap.NewTestConnection(), "", nil
	default:
		return soap.NewEmptyRequest(), "", nil
	}
}

// judgeAnswer reads an answer. now is when it was complete; the minute in it is compared with that.
func (p *Prober) judgeAnswer(t *Target, a *answer, nonce string) health.Finding {
	message, r := a.classifyAnswer()
	note := ""
	if r == health.Healthy && t.Kind == partner.Mirroring {
		r, note = checkTrust(&message, a.status, nonce, time.Now(), p.opts.Tolerance, t.Keys)
	} else if r == health.Healthy && message.Fault != nil {
		note = "with a Fault, which is a sign of life"
	}
	f := newFinding(t, r, a.status, note)
	if r.IsFailing() {
		f.Excerpt = makeExcerpt(&message, a)
	}
	return f
}

// makeExcerpt is a redacted piece of the answer: the Fault's text, the member ErrorMessage, or otherwise the
// beginning if it is readable.
func makeExcerpt(m *soap.Answer, a *answer) string {
	switch {
	case m.Fault != nil:
		return secret.MakeExcerpt([]byte(m.Fault.Code+": "+m.Fault.Text), maxExcerpt)
	case m.Members["ErrorMessage"] != "":
		return secret.MakeExcerpt([]byte(m.Members["ErrorMessage"]), maxExcerpt)
	}
	text, err := soap.ToUTF8(a.contentType, a.body)
	if a.compressed || err != nil {
		return ""
	}
	return secret.MakeExcerpt(text[:min(len(text), excerptRead)], maxExcerpt)
}
