package main

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/dev"
)

type devCmd struct {
	settingFlags
	ReceiverListen string `default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Address of the demo receiver of notifications."`
	DeskListen     string `default:"127.0.0.1:8082" placeholder:"HOST:PORT" help:"Address of the demo server, which shows the mails and stops or starts the receiver."`
}

// Run runs the demo until the first signal.
func (c *devCmd) Run(ctx context.Context, a *commandEnv) error {
	defaults := config.DevDefaults()
	defaults["log.level"] = "warn" // other events are printed in the event log
	l, err := c.loadSettings(a, defaults)
	if err != nil {
		return err
	}
	log, _ := newLogger(a.stderr, l.Config.Log)
	return dev.Run(ctx, dev.Options{
		Config: l.Config, ReceiverListen: c.ReceiverListen, DemoServerListen: c.DeskListen, Version: a.build.Version,
		Out: a.stdout, Log: log.Handler(), Colour: wantsColour(a.stdout, a.environ), Ignored: listReplacedSettings(l),
	})
}

// listReplacedSettings lists given settings that dev replaces.
func listReplacedSettings(l *config.Loaded) []string {
	var names []string
	for _, s := range config.AllSettings() {
		section, _, _ := strings.Cut(s.Key, ".")
		mine := slices.Contains([]string{"redis", "smtp", "signing", "encryption", "roles"}, section)
		if mine && l.Origin(s.Key).Source > config.FromDev {
			names = append(names, s.Key)
		}
	}
	return names
}

// wantsColour reports whether w is a terminal whose user has not disabled colours (no-color.org).
func wantsColour(w io.Writer, environ []string) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	for _, v := range environ {
		if name, value, _ := strings.Cut(v, "="); name == "NO_COLOR" && value != "" || v == "TERM=dumb" {
			return false
		}
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
