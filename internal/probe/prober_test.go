package probe_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
)

func connectors() []partner.EndpointKind {
	return []partner.EndpointKind{partner.ERPSync, partner.QuoteConnector}
}

// What is sent, to the letter: header names as WCF knows them, and no credential but the Token.
func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	type request struct{ action, contentType, agent, connection, body string }
	for kind, want := range map[partner.EndpointKind]request{
		partner.ERPSync: {`""`, "text/xml; charset=utf-8", "Lamplighter/1.2.3", "close", "<s:Body/>"},
		partner.QuoteConnector: {
			`"http://www.superoffice.net/EIS/Quote/1.0/IOnlineQuoteConnector/TestConnection"`, "text/xml; charset=utf-8", "Lamplighter/1.2.3", "close",
			`<TestConnection xmlns="http://www.superoffice.net/EIS/Quote/1.0"/>`,
		},
		partner.Mirroring: {
			`"http://www.superoffice.com/online/mirroring/0.1/IMirroringClientService/Authenticate"`, "text/xml; charset=utf-8", "Lamplighter/1.2.3", "close",
			">" + tokenText + "</SignedToken>",
		},
	} {
		seen := make(chan request, 1)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			seen <- request{r.Header.Get("SOAPAction"), r.Header.Get("Content-Type"), r.UserAgent(), map[bool]string{true: "close"}[r.Close], string(b)}
			_, _ = fmt.Fprint(w, envelope(""))
		}))
		prober(5*time.Second, nil).Probe(t.Context(), target(kind, s.URL))
		got := <-seen
		s.Close()
		if !strings.Contains(got.body, want.body) {
			t.Errorf("%s: body %s", kind, got.body)
		}
		got.body = want.body
		if d := cmp.Diff(want, got, cmp.AllowUnexported(request{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", kind, d)
		}
	}
}

// Anything in SOAP 1.1 is a sign of life of a connector, a Fault with any status too.
func TestSignsOfLife(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		body   string
	}{
		"Answer": {200, envelope(`<TestConnectionResponse xmlns="urn:x"/>`)}, "Empty": {200, envelope("")}, "Fault": {500, envelope(fault)},
		"FaultWith200": {200, envelope(fault)}, "FaultWith400": {400, envelope(fault)}, "FaultWith404": {404, envelope(fault)},
	} {
		for _, kind := range connectors() {
			f := prober(5*time.Second, nil).Probe(t.Context(), target(kind, serving(t, tc.status, tc.body)))
			if want(t, f, health.Healthy); f.Status != tc.status || f.Excerpt != "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// An answer that is not SOAP is told by its status, or else by what it is.
func TestStatuses(t *testing.T) {
	t.Parallel()
	for status, reason := range map[int]health.Reason{
		200: health.NotSOAP, 202: health.NotSOAP, 301: health.Redirect, 302: health.Redirect, 400: health.ClientError, 401: health.AuthError,
		403: health.AuthError, 404: health.NotFound, 405: health.GETOnly, 410: health.Gone, 415: health.ClientError, 429: health.RateLimited,
		500: health.ServerError, 501: health.GETOnly, 503: health.ServerError,
	} {
		f := prober(5*time.Second, nil).Probe(t.Context(), target(partner.ERPSync, serving(t, status, "nothing here")))
		if want(t, f, reason); f.Status != status || f.Excerpt != "nothing here" || strings.Contains(f.Detail, "nothing here") {
			t.Errorf("%d: %+v", status, f)
		}
	}
}

// What cannot be read here says nothing of the endpoint; what can is judged, in whatever encoding it comes.
func TestEncodingsOfAnswers(t *testing.T) {
	t.Parallel()
	latin := strings.ReplaceAll(envelope(fault), "</faultstring>", "bl\xe5b\xe6r</faultstring>")
	soap12 := `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body/></s:Envelope>`
	for name, tc := range map[string]struct {
		status        int
		kind, coding  string
		body, excerpt string
		reason        health.Reason
	}{
		"Latin1Fault":       {500, "text/xml; charset=ISO-8859-1", "", `<?xml version="1.0" encoding="ISO-8859-1"?>` + latin, "", health.Healthy},
		"Undeclared":        {200, "text/xml", "", latin, "", health.Unreadable},
		"UndeclaredFault":   {500, "text/xml", "", latin, "", health.Unreadable},
		"UndeclaredMTOM":    {500, "multipart/related", "", latin, "", health.Unreadable},
		"PageWith500":       {500, "text/plain", "", "bl\xe5b\xe6r", "", health.ServerError},
		"PageWith503":       {503, "text/xml", "", "bl\xe5b\xe6r", "", health.ServerError},
		"Latin1With503":     {503, "text/plain; charset=iso-8859-1", "", "bl\xe5b\xe6r", "blåbær", health.ServerError},
		"Compressed":        {200, "text/xml", "gzip", "\x1f\x8b\x08", "", health.Unreadable},
		"CompressedWith500": {502, "text/html", "br", "\x1f\x8b\x08", "", health.ServerError},
		"SOAP12":            {200, "application/soap+xml", "", soap12, soap12, health.SOAP12},
		"SOAP12Fault":       {500, "application/soap+xml", "", soap12, soap12, health.SOAP12},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", tc.kind)
			if tc.coding != "" {
				w.Header().Set("Content-Encoding", tc.coding)
			}
			w.WriteHeader(tc.status)
			_, _ = fmt.Fprint(w, tc.body)
		}))
		f := prober(5*time.Second, nil).Probe(t.Context(), target(partner.QuoteConnector, s.URL))
		s.Close()
		if f.Reason != tc.reason || f.Excerpt != tc.excerpt {
			t.Errorf("%s: found %s, excerpt %q (%s)", name, f.Reason, f.Excerpt, f.Detail)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	now := time.Now()
	hour := time.Hour
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, envelope("")) })
	good := certified{name: "127.0.0.1", from: now.Add(-hour), until: now.Add(hour)}
	altered := func(f func(*tls.Config)) certified { c := good; c.config = f; return c }
	for name, tc := range map[string]struct {
		server    certified
		strangers bool
		reason    health.Reason
	}{
		"Good":             {good, false, health.Healthy},
		"Expired":          {certified{name: "127.0.0.1", from: now.Add(-2 * hour), until: now.Add(-hour)}, false, health.TLSExpired},
		"NotYetValid":      {certified{name: "127.0.0.1", from: now.Add(hour), until: now.Add(2 * hour)}, false, health.TLSExpired},
		"UnknownAuthority": {good, true, health.TLSUnknownAuthority},
		"WrongHost":        {certified{name: "other.example", from: now.Add(-hour), until: now.Add(hour)}, false, health.TLSWrongHost},
		"OldProtocol":      {altered(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), false, health.TLSRefused},
		"WantsCertificate": {altered(func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }), false, health.TLSRefused},
	} {
		url, roots := tc.server.start(t, ok)
		if tc.strangers {
			roots = x509.NewCertPool()
		}
		f := prober(5*time.Second, roots).Probe(t.Context(), target(partner.ERPSync, url))
		want(t, f, tc.reason)
		if seen := !f.CertificateEnds.IsZero(); seen != (tc.reason != health.TLSRefused) && name != "WantsCertificate" {
			t.Errorf("%s: certificate until %v", name, f.CertificateEnds)
		} else if seen && (!f.CertificateEnds.Equal(tc.server.until.Truncate(time.Second)) || !f.CertificateFrom.Equal(tc.server.from.Truncate(time.Second))) {
			t.Errorf("%s: certificate from %v until %v", name, f.CertificateFrom, f.CertificateEnds)
		}
	}
	plain := strings.Replace(serving(t, 200, envelope("")), "http:", "https:", 1)
	want(t, prober(5*time.Second, nil).Probe(t.Context(), target(partner.ERPSync, plain)), health.TLSProtocol)
}

// A partner that renews its certificate is seen with the new one at the next probe.
func TestRenewedCertificateIsSeen(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, envelope("")) })
	handshakes := make(chan bool, 10)
	url, roots := certified{name: "127.0.0.1", from: now.Add(-time.Hour), until: now.Add(time.Hour), config: func(c *tls.Config) {
		c.VerifyConnection = func(s tls.ConnectionState) error { handshakes <- s.DidResume; return nil }
	}}.start(t, ok)
	p := prober(5*time.Second, roots)
	for range 3 {
		want(t, p.Probe(t.Context(), target(partner.ERPSync, url)), health.Healthy)
		if <-handshakes {
			t.Error("a session was resumed: its certificate is not looked at again")
		}
	}
}

// Errors that a test machine cannot cause at will, as the transport wraps them.
func TestTransportErrors(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	sys := func(no syscall.Errno) error { return dial(os.NewSyscallError("connect", no)) }
	for name, tc := range map[string]struct {
		err           error
		reason, blame health.Reason
	}{
		"NoSuchHost":   {dial(&net.DNSError{Err: "no such host", Name: "x.example", Server: "10.1.2.3:53", IsNotFound: true}), health.DNS, health.DNS},
		"ServFail":     {dial(&net.DNSError{Err: "server misbehaving", Name: "x.example", Server: "10.1.2.3:53"}), health.OwnFault, health.DNS},
		"TooManyFiles": {sys(syscall.EMFILE), health.OwnFault, health.Refused}, "NoRoute": {sys(syscall.ENETUNREACH), health.OwnFault, health.Refused},
		"Refused": {sys(syscall.ECONNREFUSED), health.Refused, health.Refused}, "HostDown": {sys(syscall.EHOSTUNREACH), health.Refused, health.Refused},
		"ConnectTimeout": {sys(syscall.ETIMEDOUT), health.Timeout, health.Refused}, "DialTimeout": {dial(os.ErrDeadlineExceeded), health.Timeout, health.Refused},
		"Reset": {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, health.Reset, health.Refused},
		"EOF":   {io.EOF, health.HalfClosed, health.Refused}, "Odd": {errors.New("odd"), health.Reset, health.Refused},
		"Alert":         {&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, health.TLSClientCertificate, health.Refused},
		"OtherAlert":    {&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}, health.TLSRefused, health.Refused},
		"Renegotiation": {&net.OpError{Op: "local error", Err: errors.New("tls: no renegotiation")}, health.TLSClientCertificate, health.Refused},
	} {
		f := with(&http.Client{Transport: failing{tc.err}}, time.Minute).Probe(t.Context(), target(partner.ERPSync, "https://x.example/?code=hush"))
		want(t, f, tc.reason)
		if f.Blame != tc.blame || strings.Contains(f.Detail, "10.1.2.3") || strings.Contains(f.Detail, "hush") {
			t.Errorf("%s: blame %s, %s", name, f.Blame, f.Detail)
		}
	}
}

// A resolver that does not answer is the service's own trouble, however little time a probe has.
func TestHangingResolver(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	dialer := &net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", silent.LocalAddr().String())
	}}}
	for what, within := range map[string]time.Duration{"the probe's time": time.Minute, "the dialer's time": 200 * time.Millisecond} {
		dialer := *dialer
		dialer.Timeout = within
		p := with(&http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}, min(within*2, time.Second))
		f := p.Probe(t.Context(), target(partner.ERPSync, "http://partner.example/"))
		if want(t, f, health.OwnFault); f.Blame != health.DNS || p.AnsweredSince(time.Time{}) {
			t.Errorf("%s is over: blames %s, counts as reached %v", what, f.Blame, p.AnsweredSince(time.Time{}))
		}
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestBlockedAddress(t *testing.T) {
	t.Parallel()
	url := serving(t, 200, envelope(""))
	p := with(guard.New(guard.Policy{AllowHTTP: true}, nil).Client(0, guard.TransportOptions{}), time.Minute)
	f := p.Probe(t.Context(), target(partner.ERPSync, url))
	if want(t, f, health.BlockedAddress); !strings.Contains(f.Detail, "loopback") {
		t.Errorf("%s", f.Detail)
	}
	if p.AnsweredSince(time.Time{}) {
		t.Error("a refused address counts as reached")
	}
}

// A hanging endpoint costs its timeout and no more, and giving up early is nobody's fault.
func TestPatience(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-done:
		}
	}))
	defer hang.Close()
	defer close(done)
	const timeout = 200 * time.Millisecond
	f := prober(timeout, nil).Probe(t.Context(), target(partner.QuoteConnector, hang.URL))
	if want(t, f, health.Timeout); f.Duration < timeout || f.Duration > 5*time.Second {
		t.Errorf("took %v", f.Duration)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	want(t, prober(time.Minute, nil).Probe(ctx, target(partner.QuoteConnector, hang.URL)), health.OwnFault)
	canceled, stop := context.WithCancel(t.Context())
	stop()
	want(t, prober(time.Minute, nil).Probe(canceled, target(partner.QuoteConnector, hang.URL)), health.OwnFault)
}

func TestNothingToGoBy(t *testing.T) {
	t.Parallel()
	called := serving(t, 200, envelope(""))
	nobody := target(partner.Mirroring, called)
	nobody.Tenant = ""
	p := prober(5*time.Second, nil)
	if want(t, p.Probe(t.Context(), nobody), health.NoTenant); p.AnsweredSince(time.Time{}) {
		t.Error("the endpoint was called although no tenant approved the app")
	}
	keyless := probe.NewProber(probe.ProberOptions{Client: http.DefaultClient, Tokens: tokens{err: errors.New("no key")}, Timeout: time.Second})
	want(t, keyless.Probe(t.Context(), target(partner.Mirroring, called)), health.OwnFault)
	want(t, p.Probe(t.Context(), target(partner.ERPSync, "://")), health.OwnFault)
	if start := time.Now(); p.AnsweredSince(start) {
		t.Error("answered in the future")
	}
	if want(t, p.Probe(t.Context(), target(partner.ERPSync, called)), health.Healthy); !p.AnsweredSince(time.Now().Add(-time.Minute)) {
		t.Error("an answer was not noted")
	}
}
