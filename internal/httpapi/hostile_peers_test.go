package httpapi_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lamplighter/lamplighter/internal/httpapi"
)

// pipes is a listener whose connections are in memory, so that deadlines pass in a bubble's time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial connects to the server.
func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

// dialFrom is dial from an address.
func (p *pipes) dialFrom(addr string) net.Conn {
	near, far := net.Pipe()
	p.conns <- fromAddr{far, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))}
	return near
}

// fromAddr is a connection whose peer has an address.
type fromAddr struct {
	net.Conn
	addr net.Addr
}

func (c fromAddr) RemoteAddr() net.Addr { return c.addr }

// hostile runs f in a bubble against the server as the service makes it. The bubble fails when a
// goroutine is left after the server was shut down, and the rest of it when the API panicked or
// answered with a 500.
func hostile(t *testing.T, f func(t *testing.T, h *harness, p *pipes)) {
	t.Helper()
	hostileTo(t, func(h *harness) http.Handler { return h.handler }, f)
}

// hostileTo is hostile against a server of another handler.
func hostileTo(t *testing.T, of func(*harness) http.Handler, f func(t *testing.T, h *harness, p *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		server := httpapi.NewServer(of(h), nil)
		served := make(chan error)
		go func() { served <- server.Serve(p) }()
		f(t, h, p)
		if err := server.Shutdown(t.Context()); err != nil {
			t.Errorf("connections are left: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the server ended with %v", err)
		}
		well(t, h)
	})
}

// well fails where a panic or an answer of 500 is in the metrics or the log.
func well(t *testing.T, h *harness) {
	t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "lamplighter_http_panics_total" && m.GetCounter().GetValue() > 0 {
				t.Errorf("panics: %s", h.log)
			}
			for _, l := range m.Label {
				if l.GetName() == "code" && l.GetValue() == "500" && m.GetCounter().GetValue() > 0 {
					t.Errorf("%s %s", f.GetName(), m)
				}
			}
		}
	}
}

// tell writes from a goroutine of its own, because a peer that is refused early no longer reads.
func tell(conn net.Conn, text string) { go func() { _, _ = io.WriteString(conn, text) }() }

// drain reads until the server hangs up.
func drain(conn net.Conn) string {
	b, _ := io.ReadAll(conn)
	_ = conn.Close()
	return string(b)
}

func TestSlowPeers(t *testing.T) {
	t.Parallel()
	post := func(more string) string {
		return "POST /v1/state-changes HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + tokenOf("platform") + "\r\n" + more
	}
	for name, test := range map[string]struct {
		first string // is sent at once
		drip  string // is sent again each second
		want  string // begins the answer
		after time.Duration
	}{
		"SaysNothing":    {"", "", "", 5 * time.Second},
		"DripsHeaders":   {"GET /v1/apps HTTP/1.1\r\nHost: a\r\n", "X: y\r\n", "", 5 * time.Second},
		"StopsInHeaders": {"GET /v1/apps HTTP/1.1\r\nHos", "", "", 5 * time.Second},
		"DripsBody":      {post("Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"), " ", "HTTP/1.1 408 ", 10 * time.Second},
		"StopsInBody":    {post("Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"), "", "HTTP/1.1 408 ", 10 * time.Second},
		"StopsInChunk":   {post("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"), "", "HTTP/1.1 408 ", 10 * time.Second},
		"StopsInLines":   {post("Content-Type: application/x-ndjson\r\nContent-Length: 5000\r\n\r\n{"), "", "HTTP/1.1 ", 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hostile(t, func(t *testing.T, h *harness, p *pipes) {
				start, conn := time.Now(), p.dial()
				var drips sync.WaitGroup
				drips.Go(func() {
					_, err := io.WriteString(conn, test.first)
					for err == nil && test.drip != "" {
						<-time.After(time.Second)
						_, err = io.WriteString(conn, test.drip)
					}
				})
				got := drain(conn)
				took := time.Since(start)
				drips.Wait()
				if took < test.after || took > test.after+2*time.Second {
					t.Errorf("cut off after %v, want %v", took, test.after)
				}
				if !strings.HasPrefix(got, test.want) || test.want == "" && got != "" && !strings.HasPrefix(got, "HTTP/1.1 40") {
					t.Errorf("answer %q", got)
				}
				if len(h.accepted) != 0 {
					t.Errorf("half a change was accepted: %v", h.accepted)
				}
			})
		})
	}
}

// TestLateRestOfLines: what comes of a body of lines after it was given up is not taken for a request.
func TestLateRestOfLines(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]string{"NothingBefore": "{", "LinesBefore": changeLine(1) + "\n{"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hostile(t, func(t *testing.T, h *harness, p *pipes) {
				conn := p.dial()
				head := "POST /v1/state-changes HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + tokenOf("platform") + "\r\n"
				change := changeLine(2)
				rest := head + fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(change), change)
				var late sync.WaitGroup
				late.Go(func() {
					_, _ = io.WriteString(conn, head+fmt.Sprintf("Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s", len(sent)+len(rest), sent))
					<-time.After(35 * time.Second)
					_, _ = io.WriteString(conn, rest)
				})
				got := drain(conn)
				late.Wait()
				if n := strings.Count(got, "HTTP/1.1 "); n != 1 || len(h.accepted) != strings.Count(sent, "\n") || !strings.HasSuffix(got, "0\r\n\r\n") {
					t.Errorf("%d answers, %d changes accepted: %q", n, len(h.accepted), got)
				}
			})
		})
	}
}

// TestSlowReader: who does not take the answer loses the connection when the time to write is over.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	hostile(t, func(t *testing.T, _ *harness, p *pipes) {
		start, conn := time.Now(), p.dial()
		if _, err := io.WriteString(conn, "GET /v1/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 1)
		if _, err := conn.Read(first); err != nil {
			t.Fatal(err)
		}
		<-time.After(61 * time.Second)
		if got := drain(conn); strings.HasSuffix(got, "}") || len(got) > 16<<10 {
			t.Errorf("after %v it still got %d bytes", time.Since(start), len(got))
		}
	})
}

// TestSlowTakersOfAnExport: who takes an export too slowly, be it a byte a second, loses the connection.
func TestSlowTakersOfAnExport(t *testing.T) {
	t.Parallel()
	for name, dripping := range map[string]bool{"Stops": false, "Drips": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hostile(t, func(t *testing.T, _ *harness, p *pipes) {
				start, conn, one := time.Now(), p.dial(), make([]byte, 1)
				tell(conn, "GET /v1/audit/export?subject=endless HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "+tokenOf("admin")+"\r\n\r\n")
				_, err := conn.Read(one)
				for dripping && err == nil {
					<-time.After(time.Second)
					_, err = conn.Read(one)
				}
				if took := time.Since(start); dripping && (took < 30*time.Second || took > time.Minute) {
					t.Errorf("cut off after %v", took)
				}
				<-time.After(31 * time.Second)
				if got := drain(conn); len(got) > 16<<10 {
					t.Errorf("after %v it still got %d bytes", time.Since(start), len(got))
				}
			})
		})
	}
}

// TestSmuggling: each of these framings is refused, or its connection closed, and what follows it is not
// carried out. Folded headers are unfolded, as net/http does and RFC 9112 section 5.2 lets a server do.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	change := changeLine(1)
	smuggled := fmt.Sprintf("POST /v1/state-changes HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", tokenOf("platform"), len(change), change)
	head := "POST /v1/apps/app1/resync HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + tokenOf("admin") + "\r\nContent-Type: application/json\r\n"
	for name, raw := range map[string]string{
		"TwoLengths":           head + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
		"ListOfLengths":        head + "Content-Length: 0, 44\r\n\r\n",
		"NegativeLength":       head + "Content-Length: -1\r\n\r\n",
		"PlusLength":           head + "Content-Length: +0\r\n\r\n",
		"HexLength":            head + "Content-Length: 0x0\r\n\r\n",
		"HugeLength":           head + "Content-Length: 99999999999999999999\r\n\r\n",
		"SpaceBeforeColon":     head + "Content-Length : 44\r\n\r\n",
		"BareCR":               head + "X: a\rContent-Length: 44\r\n\r\n",
		"NullInHeader":         head + "X: a\x00b\r\n\r\n",
		"LengthAndChunks":      head + "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"ChunksAndLength":      head + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"UnknownCoding":        head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"CodingTwice":          head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"CodingList":           head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"CodingWithTab":        head + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n",
		"ChunkOfHexPrefix":     head + "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
		"ChunkNegative":        head + "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
		"ChunkTooLong":         head + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
		"ChunkWithoutEnd":      head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}X\r\n0\r\n\r\n",
		"ChunkLineOfBareLF":    head + "Transfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n0\r\n\r\n",
		"ChunkExtensionHuge":   head + "Transfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("a", 20<<10) + "\r\n{}\r\n0\r\n\r\n",
		"VersionWithoutDigits": strings.Replace(head, "HTTP/1.1", "HTTP/x.y", 1) + "\r\n",
		"NoHost":               strings.Replace(head, "Host: a\r\n", "", 1) + "\r\n",
		"TwoHosts":             head + "Host: b\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hostile(t, func(t *testing.T, h *harness, p *pipes) {
				h.withApp(t)
				conn := p.dial()
				tell(conn, raw+smuggled)
				got := drain(conn)
				if n := strings.Count(got, "HTTP/1.1 "); n > 1 || len(h.accepted) != 0 {
					t.Errorf("%d answers, %d changes accepted: %q", n, len(h.accepted), got)
				}
				t.Logf("%.40q", got)
			})
		})
	}
}

// TestRequestTargets: no spelling of a path reaches what its plain spelling would not, and each is
// answered on a connection that works on.
func TestRequestTargets(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]int{
		"/v1/apps":                        401,
		"/v1/%61pps":                      401, // the same by RFC 3986, and as well guarded
		"/docs/../v1/apps":                404,
		"/docs/%2e%2e/v1/apps":            404,
		"/docs/%2E%2E%2Fv1/apps":          404,
		"/docs/..%2f..%2fv1/apps":         404,
		"//v1/apps":                       404,
		"/v1//apps":                       404,
		"/v1/apps/":                       404,
		"/v1/./apps":                      404,
		"/v1/apps%00":                     404,
		"/%00":                            404,
		"/v1/apps/%00":                    401,
		"/v1/apps;a=b":                    404,
		`/v1\apps`:                        404,
		"/v1/apps%":                       400,
		"/v1/apps%zz":                     400,
		"/v1/ap ps":                       400,
		"http://other.example/v1/apps":    401,
		"http://other.example//v1/apps":   404,
		"http://user@other.example/docs":  200,
		"http://":                         404,
		"//other.example/docs":            404,
		"*":                               404,
		"v1/apps":                         400,
		"/" + strings.Repeat("a/", 4000):  404,
		"/" + strings.Repeat("a", 64<<10): 431,
	} {
		t.Run(fmt.Sprintf("%.30s", strings.ReplaceAll(target, "/", "|")), func(t *testing.T) {
			t.Parallel()
			hostile(t, func(t *testing.T, _ *harness, p *pipes) {
				conn := p.dial()
				tell(conn, "GET "+target+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = conn.Close()
				if resp.StatusCode != want {
					t.Errorf("= %d, want %d", resp.StatusCode, want)
				}
			})
		})
	}
}
