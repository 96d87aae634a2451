package dev

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"time"
)

// Limits of a session with the mail catcher. Expected mails have about 20 KiB.
const (
	maxMail       = 1 << 20
	maxSession    = 4 << 20
	maxRecipients = 100
	sessionTime   = time.Minute
)

// mailCatcher is a mail server that delivers nothing: it passes every mail to a function. It implements as much SMTP
// as a client without TLS and login needs.
type mailCatcher struct {
	socket net.Listener
	catch  func(to []string, raw []byte)

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	work  sync.WaitGroup
}

// startCatcher listens on a free port of this machine until close is called.
func startCatcher(ctx context.Context, catch func(to []string, raw []byte)) (*mailCatcher, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the mail catcher: %w", err)
	}
	c := &mailCatcher{socket: l, catch: catch, conns: map[net.Conn]struct{}{}}
	c.work.Go(c.acceptConns)
	return c, nil
}

// port is its port on 127.0.0.1.
func (c *mailCatcher) port() int {
	if a, ok := c.socket.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// close ends every session and waits for them.
func (c *mailCatcher) close() {
	_ = c.socket.Close()
	c.mu.Lock()
	for conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
	c.mu.Unlock()
	c.work.Wait()
}

func (c *mailCatcher) acceptConns() {
	for {
		conn, err := c.socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		c.mu.Lock()
		if c.conns == nil { // closed meanwhile
			c.mu.Unlock()
			_ = conn.Close()
			return
		}
		c.conns[conn] = struct{}{}
		c.work.Go(func() { c.serveConn(conn) })
		c.mu.Unlock()
	}
}

func (c *mailCatcher) serveConn(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		c.mu.Lock()
		delete(c.conns, conn)
		c.mu.Unlock()
	}()
	_ = conn.SetDeadline(time.Now().Add(sessionTime))
	s := &smtpSession{
		text:  textproto.NewReader(bufio.NewReader(io.LimitReader(conn, maxSession))),
		w:     conn,
		catch: c.catch,
	}
	s.serveCommands()
}

// smtpSession is the session of one client.
type smtpSession struct {
	text  *textproto.Reader
	w     io.Writer
	catch func(to []string, raw []byte)

	mail bool
	to   []string
}

func (s *smtpSession) serveCommands() {
	s.writeReply("220 lamplighter-dev mail catcher")
	for {
		line, err := s.text.ReadLine()
		if err != nil {
			return
		}
		verb, argument, _ := strings.Cut(line, " ")
		if strings.EqualFold(verb, "QUIT") {
			s.writeReply("221 bye")
			return
		}
		if !s.answerCommand(strings.ToUpper(verb), argument) {
			return
		}
	}
}

// answerCommand answers one command; false ends the session.
func (s *smtpSession) answerCommand(verb, argument string) bool {
	switch verb {
	case "EHLO":
		return s.writeReply("250-lamplighter-dev", "250-8BITMIME", "250 SMTPUTF8")
	case "HELO", "NOOP":
		return s.writeReply("250 ok")
	case "RSET":
		s.mail, s.to = false, nil
		return s.writeReply("250 ok")
	case "MAIL":
		s.mail, s.to = true, nil
		return s.writeReply("250 ok")
	case "RCPT":
		to, ok := parseRecipient(argument)
		switch {
		case !s.mail:
			return s.writeReply("503 MAIL first")
		case !ok:
			return s.writeReply("501 say RCPT TO:<address>")
		case len(s.to) == maxRecipients:
			return s.writeReply("452 too many recipients")
		}
		s.to = append(s.to, to)
		return s.writeReply("250 ok")
	case "DATA":
		return s.receiveMail()
	default:
		return s.writeReply("502 not known here")
	}
}

func (s *smtpSession) receiveMail() bool {
	if len(s.to) == 0 {
		return s.writeReply("503 RCPT first")
	}
	if !s.writeReply("354 end with a dot") {
		return false
	}
	dots := s.text.DotReader()
	raw, err := io.ReadAll(io.LimitReader(dots, maxMail+1))
	if err != nil {
		return false
	}
	to := s.to
	s.mail, s.to = false, nil
	if len(raw) > maxMail {
		if _, err := io.Copy(io.Discard, dots); err != nil {
			return false
		}
		return s.writeReply("552 too big")
	}
	s.catch(to, raw)
	return s.writeReply("250 caught")
}

func (s *smtpSession) writeReply(lines ...string) bool {
	_, err := io.WriteString(s.w, strings.Join(lines, "\r\n")+"\r\n")
	return err == nil
}

// parseRecipient reads the address of RCPT's argument and ignores its parameters.
func parseRecipient(argument string) (string, bool) {
	to, rest, ok := strings.Cut(argument, "<")
	address, _, closed := strings.Cut(rest, ">")
	return address, ok && closed && address != "" && strings.EqualFold(strings.TrimSpace(to), "to:")
}
