package service_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/service"
)

// names is a name server whose names come to point elsewhere when it is turned.
type names struct {
	*testing.T

	conn net.PacketConn
	mu   sync.Mutex
	// turned is set once names lead where they did not when they were set.
	turned bool
}

func startNames(t *testing.T) (*names, *net.Resolver) {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{T: t, conn: conn}
	ended := make(chan struct{})
	go func() { defer close(ended); n.serve() }()
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	return n, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (n *names) turn() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turned = true
}

// answer is what stands there for a name: the name that it is another name of, and the address.
func (n *names) answer(name string) (alias string, ip [4]byte, exists bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.turned {
		switch name {
		case "inside.test.":
			return "", [4]byte{10, 1, 2, 3}, true
		case "alias.test.":
			return "db7.internal.corp.", [4]byte{10, 9, 8, 7}, true
		case "missing.test.":
			return "", ip, false
		}
	}
	return "", [4]byte{127, 0, 0, 1}, strings.HasSuffix(name, ".test.")
}

func (n *names) serve() {
	buf := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		alias, ip, exists := n.answer(q.Name.String())
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		switch {
		case !exists:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA && alias != "":
			to := dnsmessage.MustNewName(alias)
			c := h
			c.Type, h.Name = dnsmessage.TypeCNAME, to
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: c, Body: &dnsmessage.CNAMEResource{CNAME: to}})
			fallthrough
		case q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip}})
		}
		if packed, err := m.Pack(); err == nil {
			_, _ = n.conn.WriteTo(packed, from)
		}
	}
}

// listens serves connections until the test ends, and returns the port.
func listens(t *testing.T, cfg *tls.Config, handle func(net.Conn)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				if cfg != nil {
					handle(tls.Server(c, cfg))
				} else {
					handle(c)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// says answers each request with text.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, text)
		}
	}
}

// certificateFor is of an authority that nobody trusts.
func certificateFor(t *testing.T, names ...string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// failures are endpoints that fail, by the app that has them: where they are, and what partners are told of a push.
func failures(t *testing.T) map[string][2]string {
	t.Helper()
	const inner = "INNER-TEXT role=master host=db7.internal.corp"
	well := listens(t, nil, says("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
	reset := listens(t, nil, func(c net.Conn) {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	})
	wrong := listens(t, certificateFor(t, "secret-db7.internal.corp", "vault.internal.corp"), says(""))
	return map[string][2]string{
		"inside":  {"http://inside.test:" + well + "/", "unreachable_name"},
		"alias":   {"http://alias.test:" + well + "/", "unreachable_name"},
		"missing": {"http://missing.test:" + well + "/", "unreachable_name"},
		"reset":   {"http://reset.test:" + reset + "/", "reset"},
		"nothttp": {"http://nothttp.test:" + listens(t, nil, says(inner+"\r\n\r\n")) + "/", "bad_answer"},
		"header":  {"http://header.test:" + listens(t, nil, says("HTTP/1.1 200 OK\r\nthis line quotes "+inner+"\r\n\r\n")) + "/", "bad_answer"},
		"notls": {"https://notls.test:" + listens(t, nil, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 "+inner+"\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}) + "/", "tls"},
		"wrong":    {"https://wrong.test:" + wrong + "/", "tls"},
		"error":    {"http://error.test:" + listens(t, nil, says("HTTP/1.1 500 "+inner+"\r\nConnection: close\r\nContent-Length: 45\r\n\r\n"+inner)) + "/", "server_error"},
		"refusal":  {"http://refusal.test:" + listens(t, nil, says("HTTP/1.1 422 No\r\nConnection: close\r\nContent-Length: 45\r\n\r\n"+inner)) + "/", "client_error"},
		"redirect": {"http://redirect.test:" + listens(t, nil, says("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: http://10.1.2.3/"+"\r\nContent-Length: 45\r\n\r\n"+inner)) + "/", "redirect"},
		"fault": {"http://fault.test:" + listens(t, nil, says("HTTP/1.1 503 Away\r\nConnection: close\r\nContent-Type: text/xml\r\n\r\n"+
			`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Server</faultcode><faultstring>`+inner+`</faultstring></s:Fault></s:Body></s:Envelope>`)) + "/", "server_error"},
	}
}

// TestStrangersReadReasonsAlone has endpoints fail in all ways that leave a text, and looks through every answer that their partners get, and
// every mail, for addresses, names in certificates and what servers said.
func TestStrangersReadReasonsAlone(t *testing.T) {
	t.Parallel()
	cfg, _ := plantedSettings(t, map[string]string{})
	cfg.Incident.OpenAfter = time.Second
	set, _ := plantedKey(t)
	server, resolver := startNames(t)
	rdb := redistest.Mini(t)
	s := serveLogged(t, service.Options{
		Config: cfg, Version: "test", Log: slog.New(slog.DiscardHandler), Redis: rdb, Keys: set, Loopback: true, Unsafe: true, Resolver: resolver,
	})
	admin := cfg.BootstrapToken.Reveal()
	p := &prober{T: t, base: "http://" + s.Addr("api"), planted: map[string]string{}, seen: channels{}}
	all := failures(t)
	tokens := map[string]string{}
	for app, f := range all {
		endpoint := `{"url":"` + f[0] + `","enabled":true}`
		status, text := p.ask(admin, "PUT", "/v1/apps/"+app+"?force=true", `{"name":"App","granted_licenses":["integration_server"],"technical_contact":{"name":"Kim","email":"`+app+`@example.com"},"endpoints":{"state_change":`+endpoint+`,"erp_sync":`+endpoint+`}}`)
		if status != http.StatusCreated {
			t.Fatalf("%s: %d %s", app, status, text)
		}
		_, made := p.ask(admin, "POST", "/v1/tokens", `{"name":"`+app+`","role":"partner:`+app+`"}`+strings.Repeat(" ", len(tokens)*20)) // a body of a length of its own: the key goes by that
		tokens[app] = p.member(made, "token")
		p.ask(admin, "PUT", "/v1/apps/"+app+"/approvals/a", "")
	}
	server.turn()
	p.ask(admin, "POST", "/v1/state-changes", `{"tenant":"a","change_type":"suspend"}`)
	clear(p.seen)
	for app, f := range all {
		redistest.Eventually(t, 20*time.Second, app+" is told of", func() bool {
			_, text := p.ask(admin, "GET", "/v1/apps/"+app+"/deliveries", "")
			return strings.Contains(text, `"retryable"`) || strings.Contains(text, `"rejected"`)
		})
		staff := ""
		for n, kind := range []string{"state_change", "erp_sync"} {
			_, tested := p.ask(tokens[app], "POST", "/v1/apps/"+app+"/endpoints/"+kind+"/test", "")
			p.seen[app+" test "+kind] = tested
			at := "/v1/apps/" + app + "/endpoints/" + kind
			_, p.seen[app+" "+kind] = p.ask(tokens[app], "GET", at, "")
			if _, read := p.ask(admin, "POST", at+"/test", ""); strings.Contains(read, `"detail":"`) {
				staff = read
			}
			_, p.seen[app+" again "+kind] = p.ask(tokens[app], "PATCH", at, fmt.Sprintf(`{"url":"%sagain%d"}`, f[0], n))
			_, p.seen[app+" off "+kind] = p.ask(tokens[app], "PATCH", at, `{"enabled":false}`)
			_, p.seen[app+" on "+kind] = p.ask(tokens[app], "PATCH", at, `{"enabled":true}`)
		}
		for _, path := range []string{
			"/v1/apps", "/v1/apps/" + app, "/v1/apps/" + app + "/mailbox", "/v1/apps/" + app + "/deliveries", "/v1/apps/" + app + "/tenants/a/why",
			"/v1/jobs", "/v1/audit", "/v1/audit/export",
		} {
			_, p.seen[app+" "+path] = p.ask(tokens[app], "GET", path, "")
		}
		if text := p.seen[app+" /v1/apps/"+app+"/deliveries"]; !strings.Contains(text, `"reason":"`+f[1]+`"`) || !strings.Contains(text, `"advice":"`) {
			t.Errorf("%s: the partner reads %s", app, text)
		}
		if staff == "" {
			t.Errorf("%s: operators read no detail", app)
		}
	}
	p.incidentsOf(admin, tokens)
	p.mails(cfg, func() (out []incident.Mail) {
		if out = lettersIn(t, rdb); len(out) < len(all)/2 {
			return nil
		}
		return out
	})
	mails, found := 0, []string{}
	for where, text := range p.seen {
		if strings.HasPrefix(where, "mail ") {
			mails++
		}
		text = strings.ReplaceAll(text, p.base, "") // the service's own address, in the links of mails
		for _, hidden := range []string{
			"10.1.2.3", "10.9.8.7", "127.0.0.1", "internal.corp", "INNER", "dial tcp", "read tcp", "x509", "lookup", "malformed", "private", "blocked", `"dns"`,
		} {
			if strings.Contains(text, hidden) {
				found = append(found, fmt.Sprintf("%q in %s: %.600s", hidden, where, text))
			}
		}
	}
	slices.Sort(found)
	if len(found) > 0 || mails < len(all)/2 {
		t.Errorf("%d mails; found: %s", mails, strings.Join(found, "\n"))
	}
	t.Logf("%d answers and %d mails looked through", len(p.seen)-mails, mails)
}

// incidentsOf waits until there are incidents, and reads them as each partner.
func (p *prober) incidentsOf(admin string, tokens map[string]string) {
	p.Helper()
	redistest.Eventually(p, 30*time.Second, "incidents are open", func() bool {
		_, text := p.ask(admin, "GET", "/v1/incidents?state=open", "")
		return strings.Count(text, `"inc_`) >= len(tokens)/2
	})
	for app, token := range tokens {
		_, p.seen[app+" incidents"] = p.ask(token, "GET", "/v1/incidents", "")
	}
}
