package dev

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// StartRedis starts the in-process Redis.
func StartRedis() (*miniredis.Miniredis, error) { return startRedis() }

// Reserve finds out that an address is free.
func Reserve(ctx context.Context, flag string, addr *string) error {
	return reserveAddress(ctx, flag, addr)
}

// BaseURL is the URL of an address.
func BaseURL(addr string) string { return baseURL(addr) }

// Verifier checks pushes.
type Verifier = verifier

// NewVerifier trusts a discovery document.
func NewVerifier(discovery string) *Verifier { return newVerifier(discovery) }

// Trust takes over a secret.
func (v *verifier) Trust(app, secret string) error { return v.addSecret(app, secret) }

// Close lets go of the connections to the API.
func (v *verifier) Close() { v.client.CloseIdleConnections() }

// Verify checks a push and says whether its signature was among what was checked.
func (v *verifier) Verify(ctx context.Context, app string, h http.Header, body []byte, now time.Time) (signed bool, err error) {
	p, err := v.verifyPush(ctx, app, h, body, now)
	return err == nil && p.signed, err
}

// Catcher is the mail server with its mailbox.
type Catcher struct {
	c *mailCatcher
	m receivedMails
}

// StartCatcher starts a catcher.
func StartCatcher(ctx context.Context) (*Catcher, error) {
	k := &Catcher{}
	var err error
	k.c, err = startCatcher(ctx, func(to []string, raw []byte) { k.m.add(to, raw) })
	return k, err
}

// Addr is where it listens.
func (k *Catcher) Addr() string { return k.c.socket.Addr().String() }

// Port is its port.
func (k *Catcher) Port() int { return k.c.port() }

// Close ends it.
func (k *Catcher) Close() { k.c.close() }

// Show is what GET /mails answers.
func (k *Catcher) Show() string {
	var b strings.Builder
	k.m.writeAll(&b)
	return b.String()
}

// Stage is a console, a receiver and a desk, without a service.
type Stage struct {
	Receiver *receiver
	Desk     string
	stop     func()
}

// NewStage starts a desk and a stopped receiver that trusts a discovery document.
func NewStage(ctx context.Context, discovery string, out io.Writer) (*Stage, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &eventLog{w: out, now: time.Now}
	c.openWithBanner("")
	r := newReceiver("127.0.0.1:0", newVerifier(discovery), c)
	d := &demoServer{receiver: r, mails: &receivedMails{}, eventLog: c, help: "help\n"}
	stop := d.serve(l)
	return &Stage{Receiver: r, Desk: baseURL(l.Addr().String()), stop: func() {
		stop()
		r.stop()
		r.verifier.Close()
	}}, nil
}

// Hook is where an app's pushes go.
func (s *Stage) Hook(app string) string { return s.Receiver.hookURL(app) }

// Told asks whether a delivery was verified here.
func (s *Stage) Told(app, tenant string) bool { return s.Receiver.consumeVerified(app, tenant) }

// Close ends it.
func (s *Stage) Close() { s.stop() }

// ToldFunc tells which deliveries the receiver verified.
type ToldFunc func(app, tenant string) bool

func (f ToldFunc) consumeVerified(app, tenant string) bool { return f(app, tenant) }

// NewEvents makes the handler that turns the service's log into lines; open is the banner.
func NewEvents(out io.Writer, colour bool, now time.Time, told ToldFunc, next slog.Handler) (h slog.Handler, open func(string)) {
	c := &eventLog{w: out, colour: colour, now: func() time.Time { return now }}
	return &logHandler{eventLog: c, deliveries: told, next: next}, c.openWithBanner
}
