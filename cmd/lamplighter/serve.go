package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/service"
)

type serveCmd struct{ settingFlags }

// Run serves until the first signal, then settles what is in flight and hands over the rest.
func (c *serveCmd) Run(ctx context.Context, a *commandEnv) error {
	l, err := c.loadSettings(a, nil)
	if err != nil {
		return err
	}
	if err := checkServeSettings(l, time.Now()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log, level := newLogger(a.stderr, l.Config.Log)
	tuneGC(ctx, a.envVariable("GOGC"), a.envVariable("GOMEMLIMIT"), os.DirFS("/"), log)
	r := &reloader{read: func() (*config.Loaded, error) { return c.loadSettings(a, nil) }, level: level, log: log, running: l.Config}
	defer r.watchHangups()()
	s, err := service.New(ctx, service.Options{Config: l.Config, Version: a.build.Version, Log: log})
	if err != nil {
		return err
	}
	var reloads sync.WaitGroup
	reloads.Go(func() { r.reloadOnHangup(ctx, s) })
	err = s.Run(ctx)
	cancel() // Run also ends by itself when a listener fails
	reloads.Wait()
	return err
}

// setLogLevel applies the settings' level.
func setLogLevel(v *slog.LevelVar, c config.Log) {
	level := slog.LevelInfo
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	v.Set(level)
}

// newLogger writes in the format of the settings. Its level may change later.
func newLogger(w io.Writer, c config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	setLogLevel(level, c)
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, opts)), level
	}
	return slog.New(slog.NewJSONHandler(w, opts)), level
}
