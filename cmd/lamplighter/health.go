package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/client"
)

// maxHealthAnswer limits the printed part of an answer.
const maxHealthAnswer = 4 << 10

type healthcheckCmd struct {
	settingFlags
	Live    bool          `help:"Check only whether the process is alive, not whether it is ready."`
	Timeout time.Duration `default:"3s" help:"How long to wait for the answer."`
}

// Run succeeds when the service answers 200. Every failure gives exit code 1: container engines know no other.
func (c *healthcheckCmd) Run(ctx context.Context, a *commandEnv) error {
	l, err := c.loadSettings(a, nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %s", err) //nolint:errorlint // hides the settings' own exit code
	}
	path := "/readyz"
	if c.Live {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+deriveDialAddress(l.Config.OpsListen)+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	// A separate transport: proxy settings are not meant for a call to this machine.
	caller := &http.Client{Transport: &http.Transport{}}
	resp, err := caller.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: nothing answers on ops_listen: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthAnswer))
	if err != nil {
		return fmt.Errorf("healthcheck: read answer: %w", err)
	}
	text := strings.TrimSpace(client.DropUnprintable(string(body)))
	if resp.StatusCode != http.StatusOK {
		return errors.New("healthcheck: " + resp.Status + ": " + text)
	}
	fmt.Fprintln(a.stdout, text)
	return nil
}

// deriveDialAddress turns a listen address into one to connect to: all interfaces become this machine.
func deriveDialAddress(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	switch ip := net.ParseIP(host); {
	case host == "":
		host = "127.0.0.1"
	case ip == nil || !ip.IsUnspecified():
	case ip.To4() != nil:
		host = "127.0.0.1"
	default:
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
