package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/service"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// Options say what to run.
type Options struct {
	// Config is loaded with config.DevDefaults. Redis, SMTP, signing and encryption keys and roles
	// are replaced; public_url and the bootstrap token are filled in where they are unset.
	Config config.Config
	// ReceiverListen and DemoServerListen are the addresses of the demo receiver and the demo server.
	ReceiverListen, DemoServerListen string
	Version                          string
	// Out gets the banner and the events, Log the other logs of the service.
	Out io.Writer
	Log slog.Handler
	// Colour says that Out is a terminal with colours.
	Colour bool
	// Ignored names given settings that dev replaced; the banner lists them.
	Ignored []string
}

// Run serves until ctx ends, then stops everything and drops all state. It returns nil when ctx ended it.
func Run(ctx context.Context, o Options) error {
	d := &playground{
		opts: o, cfg: o.Config, mails: &receivedMails{},
		eventLog: &eventLog{w: o.Out, colour: o.Colour, now: time.Now},
	}
	err := d.startAndServe(ctx)
	for _, stop := range slices.Backward(d.cleanup) {
		stop()
	}
	if ctx.Err() != nil {
		d.eventLog.write("\nStopped; all state is gone.\n")
		return nil
	}
	return err
}

// playground is everything that dev runs.
type playground struct {
	opts     Options
	cfg      config.Config
	eventLog *eventLog
	mails    *receivedMails

	receiver *receiver
	info     demoInfo
	// cleanup stops what was started, in reverse order.
	cleanup []func()
}

func (d *playground) addCleanup(stop func()) { d.cleanup = append(d.cleanup, stop) }

func (d *playground) startAndServe(ctx context.Context) error {
	keySet, err := d.completeSettings(ctx)
	if err != nil {
		return err
	}
	if err := d.startPartner(ctx); err != nil {
		return err
	}
	redis, err := startRedis()
	if err != nil {
		return err
	}
	d.addCleanup(redis.Close)
	log := slog.New(&logHandler{eventLog: d.eventLog, deliveries: d.receiver, next: d.opts.Log})
	redisconn.LogTo(log)
	rdb, err := redisconn.New(redisconn.Options{URL: secret.New("redis://" + redis.Addr() + "/0"), PoolSize: d.cfg.Redis.PoolSize})
	if err != nil {
		return fmt.Errorf("connect to the in-process Redis: %w", err)
	}
	d.addCleanup(func() { _ = rdb.Close() })
	s, err := service.New(ctx, service.Options{
		Config: d.cfg, Version: d.opts.Version, Log: log, Redis: rdb, Keys: keySet, Loopback: true, Unsafe: true,
	})
	if err != nil {
		return err
	}
	d.info.ops = baseURL(s.Addr("ops"))
	return d.runService(ctx, s)
}

// completeSettings completes the given settings.
func (d *playground) completeSettings(ctx context.Context) (*signing.KeySet, error) {
	for _, a := range []struct {
		flag string
		addr *string
	}{{flagAPI, &d.cfg.Listen}, {flagOps, &d.cfg.OpsListen}, {flagPublic, &d.cfg.PublicListen}} {
		if *a.addr == "" {
			continue
		}
		if err := reserveAddress(ctx, a.flag, a.addr); err != nil {
			return nil, err
		}
	}
	d.cfg.Roles = nil // all
	if d.cfg.PublicURL == "" {
		d.cfg.PublicURL = baseURL(d.cfg.Listen)
	}
	if d.cfg.BootstrapToken.IsZero() {
		token, err := httpapi.NewToken(rand.Reader)
		if err != nil {
			return nil, err
		}
		d.cfg.BootstrapToken = secret.New(token)
	}
	key, err := secret.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	d.cfg.Encryption = config.Encryption{Key: key}
	return generateKeys(time.Now())
}

// keyLife is the validity of the generated signing keys, longer than any demo.
const keyLife = 366 * 24 * time.Hour

// generateKeys makes a signing key for each algorithm.
func generateKeys(now time.Time) (*signing.KeySet, error) {
	var made []*signing.Key
	for _, alg := range []string{signing.RS256, signing.ES256} {
		text, err := signing.GenerateKey(alg, "Lamplighter dev", now.Add(-time.Hour), now.Add(keyLife))
		if err != nil {
			return nil, err
		}
		key, err := signing.ParseKey("generated "+alg, text)
		if err != nil {
			return nil, err
		}
		made = append(made, key)
	}
	return signing.NewKeySet(made...)
}

// startPartner starts the partner's and operator's side: receiver, mail server and demo server.
func (d *playground) startPartner(ctx context.Context) error {
	d.receiver = newReceiver(d.opts.ReceiverListen, newVerifier(d.cfg.PublicURL+"/login/.well-known/openid-configuration"), d.eventLog)
	if err := d.receiver.start(ctx); err != nil {
		return err
	}
	d.addCleanup(d.receiver.stop)
	catcher, err := startCatcher(ctx, func(to []string, raw []byte) {
		m := d.mails.add(to, raw)
		d.eventLog.logEvent(eventMail, "mail", "to "+m.to+": "+m.subject)
	})
	if err != nil {
		return err
	}
	d.addCleanup(catcher.close)
	d.cfg.SMTP = config.SMTP{
		Host: "127.0.0.1", Port: catcher.port(), TLS: "none", From: "Lamplighter <lamplighter@lamplighter.example>", Timeout: d.cfg.SMTP.Timeout,
	}
	socket, err := bindAddress(ctx, flagDemoServer, d.opts.DemoServerListen)
	if err != nil {
		return err
	}
	d.info = demoInfo{
		version: d.opts.Version, api: baseURL(d.cfg.Listen), hook: d.receiver.hookURL("<client id>"), demoServer: baseURL(socket.Addr().String()),
		token: d.cfg.BootstrapToken.Reveal(), incident: d.cfg.Incident, ignored: d.opts.Ignored,
	}
	desk := &demoServer{
		receiver: d.receiver, mails: d.mails, eventLog: d.eventLog, help: d.info.helpPage(),
	}
	d.addCleanup(desk.serve(socket))
	return nil
}

// runService runs the service, creates the demo data and prints the banner.
func (d *playground) runService(ctx context.Context, s *service.Service) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	a := &adminClient{url: d.info.api, token: d.cfg.BootstrapToken, client: &http.Client{Transport: &http.Transport{}}}
	if err := a.createDemoData(ctx, d.receiver.hookURL, d.receiver.verifier.addSecret); err != nil {
		cancel()
		return errors.Join(fmt.Errorf("make the demo apps: %w", err), <-ended)
	}
	d.eventLog.openWithBanner(d.info.bannerText(d.eventLog))
	return <-ended
}
