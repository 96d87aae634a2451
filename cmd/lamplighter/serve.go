package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/service"
)

type serveCmd struct{ settingFlags }

// Run serves until the first signal, then settles what is in flight and hands the rest over.
func (c *serveCmd) Run(ctx context.Context, a *app) error {
	l, err := c.load(a, nil)
	if err != nil {
		return err
	}
	if err := checkServe(l, time.Now()); err != nil {
		return err
	}
	tuneGC()
	s, err := service.New(ctx, service.Options{Config: l.Config, Version: a.build.Version, Log: newLogger(a.stderr, l.Config.Log)})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// gcPercent lets the heap grow to five times what is live before it is collected. What is live is
// small, tens of MB, while a burst of deliveries makes a lot of short-lived garbage; with Go's default
// of 100 a tenth of a busy worker's time goes into collecting it.
const gcPercent = 400

// tuneGC sets it, unless GOGC says otherwise. GOMEMLIMIT is obeyed all the same.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// newLogger writes in the settings' format and level.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil { // the settings allow known levels alone
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}
