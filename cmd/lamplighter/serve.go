package main

import (
	"context"
	"io"
	"log/slog"
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
	s, err := service.New(ctx, service.Options{Config: l.Config, Version: a.build.Version, Log: newLogger(a.stderr, l.Config.Log)})
	if err != nil {
		return err
	}
	return s.Run(ctx)
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
