// Package smtptest is a scripted mail server for tests: it accepts mails, answers as told, drops
// connections, and can ask for STARTTLS and a login.
package smtptest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Drop as an answer closes the connection instead of answering.
const Drop = "drop"

// Script says how the server answers; an empty field is a friendly answer.
type Script struct {
	// Greeting, Mail, Rcpt, Data and Done answer the connection, MAIL FROM, RCPT TO, DATA and the
	// end of the mail. A mail counts as accepted when Done is friendly or Drop: the server that
	// drops after DATA has taken it.
	Greeting, Mail, Rcpt, Data, Done string
	// Quit answers QUIT, Rset the RSET after a mail.
	Quit, Rset string
	// Hang makes the server read and never answer the end of a mail.
	Hang bool
	// Mails is how many mails a connection may bring before it is dropped, 0 for any number.
	Mails int
}

// Received is an accepted mail.
type Received struct {
	From, To string
	Raw      string
	// Secure and User say how the sender came.
	Secure bool
	User   string
}

// Header parses the mail's header.
func (r Received) Header(t testing.TB) mail.Header {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(r.Raw))
	if err != nil {
		t.Fatalf("parse mail: %v\n%s", err, r.Raw)
	}
	return m.Header
}

// Server is a running mail server.
type Server struct {
	Host string
	Port int
	// RootCAs trusts the server's certificate.
	RootCAs *x509.CertPool

	t        testing.TB
	listener net.Listener
	opts     Options
	tls      *tls.Config
	wg       sync.WaitGroup

	mu     sync.Mutex
	script func(conn int) Script
	conns  int
	open   map[net.Conn]bool
	mails  []Received
}

// Options of a server.
type Options struct {
	// STARTTLS offers it; RequireTLS refuses mail without it.
	STARTTLS, RequireTLS bool
	// ImplicitTLS speaks TLS from the first octet.
	ImplicitTLS bool
	// Ended serves a certificate that has ended a minute ago.
	Ended bool
	// Username and Password must be given by PLAIN when set.
	Username, Password string
}

// Start runs a server on loopback until the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	life := time.Hour
	if opts.Ended {
		life = -time.Minute
	}
	cert, pool := certificate(t, life)
	s := &Server{
		Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, RootCAs: pool, t: t, listener: l, opts: opts,
		tls: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, open: map[net.Conn]bool{},
	}
	s.wg.Go(s.serve)
	t.Cleanup(s.Stop)
	return s
}

// Answer sets how every later connection is answered.
func (s *Server) Answer(sc Script) { s.AnswerEach(func(int) Script { return sc }) }

// AnswerEach sets how each later connection, counted from 1, is answered.
func (s *Server) AnswerEach(f func(conn int) Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = f
}

// Mails are those accepted so far.
func (s *Server) Mails() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Received(nil), s.mails...)
}

// Connections counts those accepted so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// Stop ends the server and its connections.
func (s *Server) Stop() {
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) serve() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns++
		sc := Script{}
		if s.script != nil {
			sc = s.script(s.conns)
		}
		s.open[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			(&session{Server: s, sc: sc, conn: c}).run()
			_ = c.Close()
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

type session struct {
	*Server
	sc     Script
	conn   net.Conn
	r      *bufio.Reader
	secure bool
	user   string
	mail   Received
	took   int
}

func (c *session) run() {
	if c.opts.ImplicitTLS {
		c.conn, c.secure = tls.Server(c.conn, c.tls), true
	}
	c.r = bufio.NewReader(c.conn)
	if !c.say(or(c.sc.Greeting, "220 smtptest ESMTP")) {
		return
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil || !c.command(strings.TrimRight(line, "\r\n")) {
			return
		}
	}
}

func (c *session) command(line string) bool {
	verb, rest, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		return c.say(c.greet())
	case "HELO", "NOOP":
		return c.say("250 ok")
	case "STARTTLS":
		if !c.say("220 go ahead") {
			return false
		}
		c.conn, c.secure = tls.Server(c.conn, c.tls), true
		c.r = bufio.NewReader(c.conn)
		return true
	case "AUTH":
		return c.auth(rest)
	case "MAIL":
		switch {
		case c.opts.RequireTLS && !c.secure:
			return c.say("530 5.7.0 must issue a STARTTLS command first")
		case c.opts.Username != "" && c.user == "":
			return c.say("530 5.7.0 authentication required")
		}
		c.mail = Received{From: address(rest), Secure: c.secure, User: c.user}
		return c.say(or(c.sc.Mail, "250 ok"))
	case "RCPT":
		c.mail.To = address(rest)
		return c.say(or(c.sc.Rcpt, "250 ok"))
	case "DATA":
		return c.data()
	case "RSET":
		return c.say(or(c.sc.Rset, "250 ok"))
	case "QUIT":
		c.say(or(c.sc.Quit, "221 bye"))
		return false
	default:
		return c.say("502 not known here")
	}
}

func (c *session) greet() string {
	ext := []string{"smtptest", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8"}
	if c.opts.STARTTLS && !c.secure {
		ext = append(ext, "STARTTLS")
	}
	if c.opts.Username != "" {
		ext = append(ext, "AUTH PLAIN LOGIN")
	}
	var b strings.Builder
	for i, e := range ext {
		sep := "-"
		if i == len(ext)-1 {
			sep = " "
		}
		fmt.Fprintf(&b, "250%s%s\r\n", sep, e)
	}
	return strings.TrimSuffix(b.String(), "\r\n")
}

func (c *session) auth(rest string) bool {
	mech, initial, _ := strings.Cut(rest, " ")
	raw, err := base64.StdEncoding.DecodeString(initial)
	parts := strings.Split(string(raw), "\x00")
	if mech != "PLAIN" || err != nil || len(parts) != 3 || parts[1] != c.opts.Username || parts[2] != c.opts.Password {
		return c.say("535 5.7.8 authentication failed")
	}
	c.user = parts[1]
	return c.say("235 2.7.0 welcome")
}

func (c *session) data() bool {
	answer := or(c.sc.Data, "354 go on")
	if !c.say(answer) {
		return false
	}
	if !strings.HasPrefix(answer, "3") {
		return true
	}
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	c.mail.Raw = b.String()
	if c.sc.Hang {
		_, _ = io.Copy(io.Discard, c.r)
		return false
	}
	done := or(c.sc.Done, "250 2.0.0 accepted")
	if done == Drop || strings.HasPrefix(done, "2") {
		c.mu.Lock()
		c.mails = append(c.mails, c.mail)
		c.mu.Unlock()
	}
	c.took++
	return c.say(done) && c.took != c.sc.Mails
}

func (c *session) say(answer string) bool {
	if answer == Drop {
		return false
	}
	_, err := io.WriteString(c.conn, answer+"\r\n")
	return err == nil
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func address(s string) string {
	_, s, _ = strings.Cut(s, "<")
	s, _, _ = strings.Cut(s, ">")
	return s
}

// certificate makes a certificate for 127.0.0.1 that ends after life, and a pool that trusts it.
func certificate(t testing.TB, life time.Duration) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "smtptest"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(life), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// ClientTLS is a client's configuration that trusts this server.
func (s *Server) ClientTLS() *tls.Config {
	return &tls.Config{RootCAs: s.RootCAs, MinVersion: tls.VersionTLS12}
}

// WriteCertificate writes the server's certificate and key as PEM files, for another server that
// shall be trusted as this one.
func (s *Server) WriteCertificate(t testing.TB, dir string) (certFile, keyFile string) {
	t.Helper()
	c := s.tls.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}
