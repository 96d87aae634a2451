package push_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/push"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/wire"
	"github.com/lamplighter/lamplighter/internal/wire/wiretest"
)

// check compares what people and machines learn of a failed attempt.
func check(t testing.TB, r delivery.Result, outcome delivery.Outcome, reason delivery.Reason, fault delivery.Fault) {
	t.Helper()
	if r.Outcome != outcome || r.Reason != reason || r.Fault != fault {
		t.Errorf("%v %v fault %d (%q), want %v %v fault %d", r.Outcome, r.Reason, r.Fault, r.Detail, outcome, reason, fault)
	}
	if r.Detail == "" {
		t.Error("nothing says what went wrong")
	}
	if len(r.Detail) > 500 {
		t.Errorf("a detail of %d bytes, by the endpoint's choice", len(r.Detail))
	}
	clean(t, r)
}

func endpoints(t testing.TB, r delivery.Result, reason delivery.Reason) {
	t.Helper()
	check(t, r, delivery.Retryable, reason, delivery.FaultEndpoint)
}

func owns(t testing.TB, r delivery.Result) {
	t.Helper()
	check(t, r, delivery.Aborted, delivery.ReasonOwnFault, delivery.FaultOwn)
}

func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	closed := raw(t, func(net.Conn) {})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	_ = l.Close()
	reset := raw(t, func(c net.Conn) {
		readRequest(c)
		_ = c.(*net.TCPConn).SetLinger(0)
	})
	for name, c := range map[string]struct {
		addr   string
		reason delivery.Reason
	}{
		"Refused": {nobody, delivery.ReasonRefused}, "ClosedAtOnce": {closed, delivery.ReasonReset}, "Reset": {reset, delivery.ReasonReset},
		"ClosedBeforeTheAnswer": {raw(t, func(c net.Conn) { readRequest(c) }), delivery.ReasonReset},
		"HalfAHeader": {raw(t, func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le")
		}), delivery.ReasonReset},
		"NotHTTP":          {raw(t, answering("220 smtp.example ESMTP\r\n")), delivery.ReasonBadAnswer},
		"NoSuchStatus":     {raw(t, answering("HTTP/1.1 2xx Fine\r\n\r\n")), delivery.ReasonBadAnswer},
		"LongFirstLine":    {raw(t, answering(strings.Repeat("\xff\x01", 20_000)+"\r\n\r\n")), delivery.ReasonBadAnswer},
		"HugeHeader":       {raw(t, answering("HTTP/1.1 200 OK\r\nX: "+string(make([]byte, 1<<20))+"\r\n\r\n")), delivery.ReasonBadAnswer},
		"EndlessContinues": {raw(t, continues), delivery.ReasonBadAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoints(t, pusher(t, 5*time.Second, nil).Post(t.Context(), target(t, "http://"+c.addr+"/"+query), message(tenant.Suspend)), c.reason)
		})
	}
}

func continues(c net.Conn) {
	readRequest(c)
	for {
		if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"); err != nil {
			return
		}
	}
}

func TestInformationalAnswers(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"Continue":   "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"EarlyHints": "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 199 Odd\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := pusher(t, 5*time.Second, nil).Post(t.Context(), target(t, "http://"+raw(t, answering(text))), message(tenant.Suspend))
			if r.Outcome != delivery.Delivered || r.Status != 204 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A switch of protocols hands over the bare connection, which no deadline ends: it must not hold
// the slot.
func TestSwitchingProtocols(t *testing.T) {
	t.Parallel()
	addr := raw(t, answering("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"))
	done := make(chan delivery.Result, 1)
	p := pusher(t, time.Second, nil)
	go func() { done <- p.Post(t.Context(), target(t, "http://"+addr), message(tenant.Suspend)) }()
	select {
	case r := <-done:
		endpoints(t, r, delivery.ReasonServerError)
	case <-time.After(10 * time.Second):
		t.Fatal("the attempt outlasted its timeout")
	}
}

func TestTimeoutAtEachStage(t *testing.T) {
	t.Parallel()
	silent := raw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	const timeout = 300 * time.Millisecond
	for name, url := range map[string]string{
		"Handshake": "https://" + silent, "Answer": "http://" + silent,
		"RestOfTheHeader": "http://" + raw(t, answering("HTTP/1.1 200 OK\r\nX: y")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := pusher(t, timeout, nil).Post(t.Context(), target(t, url+"/"+query), message(tenant.Suspend))
			endpoints(t, r, delivery.ReasonTimeout)
			if r.Duration < timeout || r.Duration > 5*time.Second {
				t.Errorf("took %v", r.Duration)
			}
		})
	}
	t.Run("Connect", func(t *testing.T) {
		t.Parallel()
		p := over(hanging{}, timeout)
		endpoints(t, p.Post(t.Context(), target(t, "https://partner.example/"+query), message(tenant.Suspend)), delivery.ReasonTimeout)
	})
}

func TestTLSFaults(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	ok := answering("HTTP/1.1 204 No Content\r\n\r\n")
	later := time.Now().Add(time.Hour)
	plain := raw(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 100))
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
	})
	garbage := raw(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 100))
		_, _ = io.WriteString(c, "220 smtp.example ESMTP ready\r\n")
	})
	for name, url := range map[string]string{
		"WrongName":         a.server("partner.example", later, nil, ok),
		"Expired":           a.server("127.0.0.1", time.Now().Add(-time.Minute), nil, ok),
		"UnknownAuthority":  stranger.server("127.0.0.1", later, nil, ok),
		"PlainHTTP":         "https://" + plain,
		"NotEvenHTTP":       "https://" + garbage,
		"OldProtocol":       a.server("127.0.0.1", later, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, ok),
		"WantsCertificate":  a.server("127.0.0.1", later, func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }, ok),
		"WantsCertificate3": a.server("127.0.0.1", later, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }, ok),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoints(t, pusher(t, 5*time.Second, a.pool()).Post(t.Context(), target(t, url+"/"+query), message(tenant.Suspend)), delivery.ReasonTLS)
		})
	}
	t.Run("Good", func(t *testing.T) {
		t.Parallel()
		r := pusher(t, 5*time.Second, a.pool()).Post(t.Context(), target(t, a.server("127.0.0.1", later, nil, ok)), message(tenant.Suspend))
		if r.Outcome != delivery.Delivered {
			t.Errorf("%+v", r)
		}
	})
}

func TestBlockedAddress(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the receiver was called") }))
	defer srv.Close()
	for name, c := range map[string]struct {
		policy  guard.Policy
		outcome delivery.Outcome
	}{
		"ByItsScheme":  {guard.Policy{}, delivery.Blocked},
		"ByItsAddress": {guard.Policy{AllowHTTP: true}, delivery.Retryable}, // as a name that does not exist
	} {
		t.Run(name, func(t *testing.T) {
			p := guarded(t, guard.New(c.policy, nil), wire.Options{}, push.Options{Timeout: 5 * time.Second})
			r := p.Post(t.Context(), target(t, srv.URL+"/"+query), message(tenant.Suspend))
			check(t, r, c.outcome, delivery.ReasonBlockedAddress, delivery.FaultEndpoint)
		})
	}
}

// Errors that a test machine cannot cause at will, as the transport wraps them.
func TestClassify(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	sys := func(no syscall.Errno) error { return dial(os.NewSyscallError("connect", no)) }
	const own = delivery.ReasonOwnFault
	for name, c := range map[string]struct {
		err    error
		reason delivery.Reason
	}{
		"NoSuchHost":      {dial(&net.DNSError{Err: "no such host", Name: "x.example", IsNotFound: true}), delivery.ReasonDNS},
		"ServerFailure":   {dial(&net.DNSError{Err: "server misbehaving", Name: "x.example", IsTemporary: true}), own},
		"ResolverTimeout": {dial(&net.DNSError{Err: "i/o timeout", Name: "x.example", IsTimeout: true}), own},
		"TooManyFiles":    {dial(os.NewSyscallError("socket", syscall.EMFILE)), own}, "SystemsFiles": {dial(os.NewSyscallError("socket", syscall.ENFILE)), own},
		"NetUnreachable": {sys(syscall.ENETUNREACH), own}, "NoPorts": {sys(syscall.EADDRNOTAVAIL), own}, "NetDown": {sys(syscall.ENETDOWN), own},
		"NoBuffers": {sys(syscall.ENOBUFS), own}, "NoMemory": {sys(syscall.ENOMEM), own},
		"HostUnreachable": {sys(syscall.EHOSTUNREACH), delivery.ReasonRefused}, "Refused": {sys(syscall.ECONNREFUSED), delivery.ReasonRefused},
		"ConnectTimeout": {sys(syscall.ETIMEDOUT), delivery.ReasonTimeout}, "Reset": {sys(syscall.ECONNRESET), delivery.ReasonReset},
		"DialTimeout": {dial(os.ErrDeadlineExceeded), delivery.ReasonTimeout}, "EOF": {io.EOF, delivery.ReasonReset}, "Unknown": {errors.New("odd"), delivery.ReasonReset},
		"Alert": {&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}, delivery.ReasonTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrapped := fmt.Errorf("round trip: %w", c.err)
			p := over(failingTransport{wrapped}, time.Minute)
			r := p.Post(t.Context(), target(t, "https://x.example/"+query), message(tenant.Suspend))
			if c.reason == own {
				owns(t, r)
			} else {
				endpoints(t, r, c.reason)
			}
			if got := p.ClassifyError(&url.Error{Op: "Post", URL: "https://x.example/" + query, Err: wrapped}); got.Reason != c.reason {
				t.Errorf("Classify: %v", got.Reason)
			}
		})
	}
}

// A resolver that takes all of an attempt's time is the service's own trouble.
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
	p := push.New(push.Options{
		Wire: wire.New(wire.Options{Dial: dialer.DialContext}), Check: url.Parse, Tokens: &tokens{}, Timeout: 300 * time.Millisecond,
	})
	owns(t, p.Post(t.Context(), target(t, "https://partner.example/"), message(tenant.Suspend)))
}

// A partner reads the detail, and need not know which resolver the service asks.
func TestDetailLeavesTheResolverOut(t *testing.T) {
	t.Parallel()
	fault := &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "x.example", Server: "10.1.2.3:53", IsNotFound: true}}
	p := over(failingTransport{fault}, time.Minute)
	r := p.Post(t.Context(), target(t, "https://x.example/"), message(tenant.Suspend))
	if strings.Contains(r.Detail, "10.1.2.3") || !strings.Contains(r.Detail, "x.example") {
		t.Errorf("detail %q", r.Detail)
	}
}

func TestOwnFaultsBeforeTheRequest(t *testing.T) {
	t.Parallel()
	p := push.New(push.Options{Wire: wiretest.Over{RoundTripper: failingTransport{io.EOF}}, Check: url.Parse, Tokens: &tokens{err: errors.New("no key")}, Timeout: time.Minute})
	owns(t, p.Post(t.Context(), target(t, "https://x.example/"+query), message(tenant.Suspend)))
	p = over(failingTransport{io.EOF}, time.Minute)
	owns(t, p.Post(t.Context(), target(t, "https://x.example:port/"+query), message(tenant.Suspend)))
}

// Whoever ends the attempt early, and however, the endpoint is not to blame.
func TestAborted(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"Canceled": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		},
		"CanceledWithACause": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("moving house")) })
			return ctx, func() { cancel(nil) }
		},
		"OutOfTheCallersTime": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := end(t.Context())
			defer cancel()
			addr := raw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
			owns(t, pusher(t, 10*time.Second, nil).Post(ctx, target(t, "http://"+addr+"/"+query), message(tenant.Suspend)))
		})
	}
}

// Once the status is known the body decides nothing, and must not hold the slot.
func TestEndlessBodies(t *testing.T) {
	t.Parallel()
	trickle := func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}
	gigabyte := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1073741824")
		for range 1024 {
			if _, err := io.Copy(w, zeroes()); err != nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		code int
		body http.HandlerFunc
		most time.Duration
	}{
		"TrickleAfterOK": {200, trickle, 3 * time.Second}, "TrickleAfterError": {500, trickle, 3 * time.Second},
		"GigabyteAfterOK": {200, gigabyte, time.Second}, "GigabyteAfterError": {400, gigabyte, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.code != http.StatusOK {
					w.WriteHeader(c.code)
				}
				c.body(w, r)
			}))
			defer srv.Close()
			r := pusher(t, 10*time.Second, nil).Post(t.Context(), target(t, srv.URL), message(tenant.Suspend))
			if r.Status != c.code || r.Outcome != delivery.ClassifyStatus(c.code).Outcome || len(r.Excerpt) > 200 {
				t.Errorf("%+v", r)
			}
			if r.Duration > c.most {
				t.Errorf("took %v", r.Duration)
			}
		})
	}
}

// hosts is a transport on which each host fails or answers by itself.
type hosts map[string]error

func (h hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := h[r.URL.Host]; err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

// What looks like the service's own fault is the host's once it lasted while others answered.
func TestOwnFaultThatIsTheHosts(t *testing.T) {
	t.Parallel()
	servfail := &net.DNSError{Err: "server misbehaving", Name: "bad", IsTemporary: true}
	unreachable := os.NewSyscallError("connect", syscall.ENETUNREACH)
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	type step struct {
		after  time.Duration
		host   string
		err    error
		reason delivery.Reason
	}
	const own, ok = delivery.ReasonOwnFault, delivery.ReasonNone
	// steady fails the host every half minute for d, while another answers.
	steady := func(d time.Duration, err error) (out []step) {
		for t := time.Duration(0); t < d; t += 30 * time.Second {
			out = append(out, step{0, "bad", err, own}, step{30 * time.Second, "good", nil, ok})
		}
		return out
	}
	five := 5 * time.Minute
	for name, steps := range map[string][]step{
		"OnceIsOurs":         {{0, "bad", servfail, own}},
		"JustBeforeTheLimit": append(steady(five-30*time.Second, servfail), step{0, "bad", servfail, own}, step{30*time.Second - 1, "bad", servfail, own}),
		"AtTheLimit":         append(steady(five, servfail), step{0, "bad", servfail, delivery.ReasonDNS}),
		"NoRouteToOneHost":   append(steady(five, unreachable), step{0, "bad", unreachable, delivery.ReasonRefused}),
		"NobodyElseAnswers":  append(steady(five, servfail), step{time.Minute + 1, "bad", servfail, own}),
		"AnAnswerEndsTheSpell": append(append(steady(five, servfail), step{0, "bad", nil, ok}),
			step{0, "bad", servfail, own}, step{time.Second, "good", nil, ok}, step{0, "bad", servfail, own}),
		"ItsOwnFaultEndsTheSpell": append(append(steady(five, servfail), step{0, "bad", refused, delivery.ReasonRefused}), step{0, "bad", servfail, own}),
		"SilenceEndsTheSpell":     {{0, "bad", servfail, own}, {time.Hour, "good", nil, ok}, {0, "bad", servfail, own}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := hosts{}
				p := over(tr, time.Second)
				for i, s := range steps {
					<-time.After(s.after)
					tr[s.host] = s.err
					r := p.Post(t.Context(), target(t, "https://"+s.host+"/"+query), message(tenant.Suspend))
					if r.Reason != s.reason {
						t.Fatalf("step %d: %v, want %v", i, r.Reason, s.reason)
					}
					if s.reason != own && s.err != nil && (r.Outcome != delivery.Retryable || r.Fault != delivery.FaultEndpoint) {
						t.Errorf("step %d: %+v", i, r)
					}
				}
			})
		})
	}
}
