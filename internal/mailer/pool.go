package mailer

import (
	"net"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	gomail "github.com/wneessen/go-mail"
	gosmtp "github.com/wneessen/go-mail/smtp"
)

const (
	// idleMax is how many idle connections are kept, as many as mails are sent at once.
	idleMax = 4
	// idleFor is how long an idle connection is kept: long enough for a burst, shorter than the idle limit
	// of any server.
	idleFor = 5 * time.Second
	// mailsPerConn bounds the mails on one connection: servers may treat more as abuse.
	mailsPerConn = 50
	// breakerFailures in a row open the breaker for breakerOpenFor. After that one mail is let through as a probe.
	breakerFailures = 5
	breakerOpenFor  = 30 * time.Second
)

// smtpConn is a connection to the mail server, greeted and logged in.
type smtpConn struct {
	client *gomail.Client
	conn   *gosmtp.Client
	raw    net.Conn
	used   int
	timer  *time.Timer
}

// quitAndClose sends QUIT, waits for at most a second, and closes the connection.
func (l *smtpConn) quitAndClose() {
	_ = l.raw.SetDeadline(time.Now().Add(time.Second))
	_ = l.client.CloseWithSMTPClient(l.conn)
	_ = l.raw.Close()
}

// connPool keeps connections for mails that follow within idleFor.
type connPool struct {
	mu   sync.Mutex
	idle []*smtpConn // guarded by mu, the newest last
}

// take returns an idle connection, the newest, or nil when there is none.
func (p *connPool) take() *smtpConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	l := p.idle[n-1]
	p.idle = p.idle[:n-1]
	l.timer.Stop()
	return l
}

// put keeps a connection for idleFor; false when the caller must close it.
func (p *connPool) put(l *smtpConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= idleMax || l.used >= mailsPerConn {
		return false
	}
	l.timer = time.AfterFunc(idleFor, func() {
		if p.remove(l) {
			l.quitAndClose()
		}
	})
	p.idle = append(p.idle, l)
	return true
}

// remove takes a connection out of the pool; false when it was no longer idle.
func (p *connPool) remove(l *smtpConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.idle {
		if other == l {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return true
		}
	}
	return false
}

func (p *connPool) closeAll() {
	for l := p.take(); l != nil; l = p.take() {
		l.quitAndClose()
	}
}

func newBreaker(m *Metrics) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: "smtp", MaxRequests: 1, Timeout: breakerOpenFor,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerFailures },
		OnStateChange: func(_ string, _, to gobreaker.State) { m.setBreakerOpen(to != gobreaker.StateClosed) },
	})
}
