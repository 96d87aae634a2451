package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/service"
)

// reloader reads the settings again at SIGHUP and applies those that can change in a running process. All settings
// must be valid, or none is applied.
type reloader struct {
	read    func() (*config.Loaded, error)
	hangups chan os.Signal
	level   *slog.LevelVar
	log     *slog.Logger
	// running are the present settings of the process.
	running config.Config
}

// watchHangups catches SIGHUP from now on, which would otherwise end the process.
func (r *reloader) watchHangups() (stop func()) {
	r.hangups = make(chan os.Signal, 1) // a signal during a reload triggers another one afterwards
	signal.Notify(r.hangups, syscall.SIGHUP)
	return func() { signal.Stop(r.hangups) }
}

// reloadOnHangup reloads at each signal until ctx ends.
func (r *reloader) reloadOnHangup(ctx context.Context, s *service.Service) {
	for {
		select {
		case <-r.hangups:
			r.reloadSettings(ctx, s)
		case <-ctx.Done():
			return
		}
	}
}

func (r *reloader) reloadSettings(ctx context.Context, s *service.Service) {
	l, err := r.read()
	if err == nil {
		err = checkServeSettings(l, time.Now())
	}
	if err == nil {
		err = s.Reload(ctx, l.Config)
	}
	if err != nil {
		r.log.ErrorContext(ctx, "settings not reloaded: the process continues with its present ones", "err", err)
		return
	}
	setLogLevel(r.level, l.Config.Log)
	for _, changed := range config.ChangedSettings(&r.running, &l.Config) {
		if !changed.Reload {
			r.log.WarnContext(ctx, "a changed setting needs a restart", "setting", changed.Key)
		}
	}
	r.running.Log.Level, r.running.Signing = l.Config.Log.Level, l.Config.Signing
	r.log.InfoContext(ctx, "settings reloaded")
}
