package wire_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/wire"
)

// patience is far beyond what anything here takes.
const patience = 20 * time.Second

func destination(t testing.TB, raw string) *wire.Destination {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	d, err := wire.NewDestination(u)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// dials counts connections.
type dials struct{ n atomic.Int32 }

func (d *dials) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.n.Add(1)
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func client(t testing.TB, opts wire.Options) (*wire.Client, *dials) {
	t.Helper()
	d := &dials{}
	opts.Dial = d.dial
	c := wire.New(opts)
	t.Cleanup(c.Close)
	return c, d
}

// post sends a body and returns the answer's status and body.
func post(t testing.TB, c *wire.Client, to *wire.Destination, body string) (int, string, error) {
	t.Helper()
	var status int
	var text string
	err := c.Do(t.Context(), &wire.Request{
		To: to, Header: []byte("Content-Type: text/plain\r\nwebhook-id: 1\r\n"), Body: []byte(body), Deadline: time.Now().Add(patience),
	}, func(resp *http.Response) {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		status, text = resp.StatusCode, string(b)
	})
	return status, text, err
}

// scripted serves each accepted connection by the next of its handlers, the last one for all others.
func scripted(t testing.TB, handlers ...func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h := handlers[min(n, len(handlers)-1)]
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(patience))
				h(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return "http://" + l.Addr().String() + "/hook?code=1"
}

// take reads one request and returns its body.
func take(br *bufio.Reader) (string, error) {
	req, err := http.ReadRequest(br)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(req.Body)
	return string(b), err
}

// serving answers every request of a connection with text.
func serving(text string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := take(br); err != nil {
				return
			}
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

const noContent = "HTTP/1.1 204 No Content\r\n\r\n"

func TestARequestIsWhatItSays(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	url := scripted(t, func(c net.Conn, br *bufio.Reader) {
		var head strings.Builder
		for {
			line, err := br.ReadString('\n')
			head.WriteString(line)
			if err != nil || line == "\r\n" {
				break
			}
		}
		body := make([]byte, 5)
		_, _ = io.ReadFull(br, body)
		got <- head.String() + string(body)
		_, _ = io.WriteString(c, noContent)
	})
	c, _ := client(t, wire.Options{})
	if status, _, err := post(t, c, destination(t, url), "hello"); status != 204 || err != nil {
		t.Fatalf("status %d, %v", status, err)
	}
	host := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/hook?code=1")
	want := "POST /hook?code=1 HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: text/plain\r\nwebhook-id: 1\r\nContent-Length: 5\r\n\r\nhello"
	if text := <-got; text != want {
		t.Errorf("sent %q, want %q", text, want)
	}
}

// Each answer leaves the connection to the next request, or ends it.
func TestWhichAnswersKeepTheConnection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		keep bool
	}{
		"NoContent":     {noContent, true},
		"Length":        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
		"Chunked":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true},
		"Interim":       {"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + noContent, true},
		"ManyInterim":   {strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", 500) + noContent, true},
		"Misdirected":   {"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n", false},
		"BadGateway":    {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", false},
		"Unavailable":   {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false},
		"GatewayLate":   {"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n", false},
		"NotFound":      {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", true},
		"SaysClose":     {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false},
		"OldProtocol":   {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
		"MoreThanSaid":  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", false},
		"LargerThanCap": {"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000), false},
		"Switching":     {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := destination(t, scripted(t, serving(c.text)))
			cl, d := client(t, wire.Options{})
			for range 3 {
				if _, _, err := post(t, cl, to, "hello"); err != nil {
					t.Fatal(err)
				}
			}
			want := int32(3)
			if c.keep {
				want = 1
			}
			if n := d.n.Load(); n != want {
				t.Errorf("%d connections for 3 requests, want %d", n, want)
			}
		})
	}
}

// A connection that leads to a broken backend is left after the second error in a row.
func TestErrorsInARowEndAConnection(t *testing.T) {
	t.Parallel()
	const broken = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
	answers := []string{broken, noContent, broken, noContent, broken, broken, noContent}
	var n atomic.Int32
	to := destination(t, scripted(t, func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := take(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, answers[int(n.Add(1)-1)%len(answers)])
		}
	}))
	c, d := client(t, wire.Options{})
	for i := range answers {
		if _, _, err := post(t, c, to, "hello"); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if got := d.n.Load(); got != 2 {
		t.Errorf("%d connections, want 2: one ends after the two errors in a row", got)
	}
}

// A connection in use ends when it is old, and not all of them at once.
func TestConnectionsGrowOld(t *testing.T) {
	t.Parallel()
	to := destination(t, scripted(t, serving(noContent)))
	for name, c := range map[string]struct {
		age     time.Duration
		random  float64
		connect int32
	}{
		"Old": {time.Nanosecond, 0, 3}, "Young": {time.Hour, 0, 1}, "YoungLessTheJitter": {time.Hour, 0.999, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cl, d := client(t, wire.Options{MaxAge: c.age, Random: func() float64 { return c.random }})
			for range 3 {
				if _, _, err := post(t, cl, to, "hello"); err != nil {
					t.Fatal(err)
				}
			}
			if n := d.n.Load(); n != c.connect {
				t.Errorf("%d connections for 3 requests, want %d", n, c.connect)
			}
		})
	}
}

// Interim answers are bounded by what they cost.
func TestInterimAnswersWithoutEnd(t *testing.T) {
	t.Parallel()
	to := destination(t, scripted(t, func(c net.Conn, br *bufio.Reader) {
		_, _ = take(br)
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
				return
			}
		}
	}))
	c, _ := client(t, wire.Options{})
	if _, _, err := post(t, c, to, "hello"); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("%v", err)
	}
}

// A server may close an idle connection at any moment. That is nobody's failure: the request goes
// out on a new one.
func TestAClosedConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	closing := func(c net.Conn, br *bufio.Reader) { // answers once, then closes without saying so
		_, _ = take(br)
		_, _ = io.WriteString(c, noContent)
	}
	resetting := func(c net.Conn, br *bufio.Reader) { // answers once, and resets at the next request
		_, _ = take(br)
		_, _ = io.WriteString(c, noContent)
		_, _ = br.Peek(1)
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	for name, first := range map[string]func(net.Conn, *bufio.Reader){"Closed": closing, "ResetAtTheNext": resetting} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := destination(t, scripted(t, first, serving(noContent)))
			c, d := client(t, wire.Options{})
			for n := range 3 {
				if status, _, err := post(t, c, to, "hello"); status != 204 || err != nil {
					t.Fatalf("request %d: status %d, %v", n, status, err)
				}
			}
			if n := d.n.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
}

// A new connection that gives no answer is the endpoint's failure, and so is one that began to.
func TestLostAnswersAreNotRepeated(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	hangUp := func(text string) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, br *bufio.Reader) {
			for _, answer := range []string{noContent, text} {
				if _, err := take(br); err != nil {
					return
				}
				requests.Add(1)
				_, _ = io.WriteString(c, answer)
			}
		}
	}
	to := destination(t, scripted(t, hangUp("HTTP/1.1 200 OK\r\nContent-Le")))
	c, d := client(t, wire.Options{})
	if _, _, err := post(t, c, to, "1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := post(t, c, to, "2"); err == nil {
		t.Error("half an answer counts as one")
	}
	if d.n.Load() != 1 || requests.Load() != 2 {
		t.Errorf("%d connections and %d requests, want 1 and 2", d.n.Load(), requests.Load())
	}
	silent := destination(t, scripted(t, func(_ net.Conn, br *bufio.Reader) { _, _ = take(br) }))
	c, d = client(t, wire.Options{})
	if _, _, err := post(t, c, silent, "1"); !errors.Is(err, io.ErrUnexpectedEOF) || d.n.Load() != 1 {
		t.Errorf("%v over %d connections", err, d.n.Load())
	}
}

// An answer that comes before the request was read counts.
func TestAnswerBeforeTheRequestIsRead(t *testing.T) {
	t.Parallel()
	to := destination(t, scripted(t, func(c net.Conn, _ *bufio.Reader) {
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}))
	c, _ := client(t, wire.Options{})
	if status, _, err := post(t, c, to, strings.Repeat("x", 4<<20)); status != 413 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestDeadlinesAndCancels(t *testing.T) {
	t.Parallel()
	silent := destination(t, scripted(t, func(_ net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) }))
	for name, c := range map[string]struct{ deadline, cancel time.Duration }{
		"Deadline": {200 * time.Millisecond, patience}, "Canceled": {patience, 200 * time.Millisecond}, "CanceledBefore": {patience, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), c.cancel)
			defer cancel()
			cl, _ := client(t, wire.Options{})
			start := time.Now()
			err := cl.Do(ctx, &wire.Request{To: silent, Deadline: start.Add(c.deadline)}, func(*http.Response) { t.Error("an answer") })
			if err == nil || time.Since(start) > patience/2 {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	}
}

func TestIdleConnections(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(srv.Close)
	to := destination(t, srv.URL)
	t.Run("AreBounded", func(t *testing.T) {
		t.Parallel()
		const many, kept = 8, 3
		c, d := client(t, wire.Options{IdlePerHost: kept})
		burst := func() {
			var gate, all sync.WaitGroup
			gate.Add(many)
			for range many {
				all.Go(func() {
					err := c.Do(t.Context(), &wire.Request{To: to, Deadline: time.Now().Add(patience)}, func(*http.Response) {
						gate.Done()
						gate.Wait() // all hold their connection at once
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		burst()
		burst()
		if n := d.n.Load(); n != many+many-kept {
			t.Errorf("%d connections, want %d", n, many+many-kept)
		}
	})
	t.Run("GrowOld", func(t *testing.T) {
		t.Parallel()
		c, d := client(t, wire.Options{IdleTimeout: time.Nanosecond})
		for range 2 {
			if _, _, err := post(t, c, to, "x"); err != nil {
				t.Fatal(err)
			}
		}
		if n := d.n.Load(); n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
	})
}

// A full pool takes from the host that was idle longest, not from whoever comes last.
func TestAFullPoolForgetsTheOldest(t *testing.T) {
	t.Parallel()
	c, d := client(t, wire.Options{Idle: 2})
	const answer = "HTTP/1.1 204 No Content\r\n\r\n"
	to := map[string]*wire.Destination{}
	for _, host := range []string{"a", "b", "c"} {
		to[host] = destination(t, scripted(t, serving(answer)))
	}
	for n, step := range []struct {
		host  string
		dials int32
	}{
		{"a", 1}, {"b", 2}, {"a", 2}, {"c", 3}, // b's went: a's was used since
		{"a", 3}, {"c", 3}, {"b", 4}, // a's went
		{"c", 4}, {"b", 4}, {"a", 5},
	} {
		if _, _, err := post(t, c, to[step.host], "x"); err != nil {
			t.Fatal(err)
		}
		if got := d.n.Load(); got != step.dials {
			t.Fatalf("step %d, to %s: %d dials, want %d", n, step.host, got, step.dials)
		}
	}
}

func TestTLSNamesTheHost(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.TLS.NegotiatedProtocol)
	}))
	t.Cleanup(srv.Close)
	roots := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	c, d := client(t, wire.Options{RootCAs: roots})
	for range 3 {
		if status, text, err := post(t, c, destination(t, srv.URL), "x"); status != 200 || text != "HTTP/1.1 http/1.1" || err != nil {
			t.Fatalf("status %d, %q, %v", status, text, err)
		}
	}
	if n := d.n.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// What a server says on an idle connection is no answer to the next request.
func TestAFarewellIsNoAnswer(t *testing.T) {
	t.Parallel()
	bye := make(chan struct{})
	said := make(chan struct{})
	first := func(c net.Conn, br *bufio.Reader) {
		_, _ = take(br)
		_, _ = io.WriteString(c, noContent)
		<-bye
		_, _ = io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		close(said)
		_, _ = io.Copy(io.Discard, c)
	}
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.StartTLS() // for its certificate
	cert, roots := srv.TLS.Certificates, srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	srv.Close()
	secured := func(h func(net.Conn, *bufio.Reader)) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, _ *bufio.Reader) {
			s := tls.Server(c, &tls.Config{Certificates: cert, MinVersion: tls.VersionTLS12})
			h(s, bufio.NewReader(s))
			_ = s.Close()
		}
	}
	url := scripted(t, secured(first), secured(serving(noContent)))
	to := destination(t, strings.Replace(url, "http://", "https://", 1))
	c, d := client(t, wire.Options{RootCAs: roots})
	if status, _, err := post(t, c, to, "1"); status != 204 || err != nil {
		t.Fatalf("status %d, %v", status, err)
	}
	close(bye)
	<-said
	<-time.After(100 * time.Millisecond) // an idle connection is looked at after a while
	if status, _, err := post(t, c, to, "2"); status != 204 || err != nil || d.n.Load() != 2 {
		t.Errorf("status %d, %v, over %d connections", status, err, d.n.Load())
	}
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	for raw, ok := range map[string]bool{
		"https://partner.example": true, "http://[::1]:8080/a?b=c": true, "ftp://partner.example": false, "https:///path": false, "/path": false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wire.NewDestination(u); (err == nil) != ok {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func BenchmarkPost(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(srv.Close)
	c, _ := client(b, wire.Options{})
	r := &wire.Request{To: destination(b, srv.URL), Header: []byte("Content-Type: application/json\r\n"), Body: make([]byte, 1000)}
	b.ReportAllocs()
	for b.Loop() {
		r.Deadline = time.Now().Add(patience)
		if err := c.Do(b.Context(), r, func(*http.Response) {}); err != nil {
			b.Fatal(err)
		}
	}
}
