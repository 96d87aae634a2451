package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Flags for the addresses of dev; each error about an address names its flag.
const (
	flagAPI        = "--listen"
	flagOps        = "--ops-listen"
	flagPublic     = "--public-listen"
	flagReceiver   = "--receiver-listen"
	flagDemoServer = "--desk-listen"
)

// bindAddress listens on the address of a flag.
func bindAddress(ctx context.Context, flag, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("another program listens on %s already: stop it, or choose another address, such as %s 127.0.0.1:0 for any free port: %w", addr, flag, err)
	default:
		return nil, fmt.Errorf("listen on %s, as %s says: %w", addr, flag, err)
	}
}

// reserveAddress checks that an address is free, and replaces port 0 by a free port. The address of the API must be
// known before the service is built. The port is free again on return. If another program takes it meanwhile, the
// service refuses to start.
func reserveAddress(ctx context.Context, flag string, addr *string) error {
	l, err := bindAddress(ctx, flag, *addr)
	if err != nil {
		return err
	}
	*addr = l.Addr().String()
	return l.Close()
}

// baseURL is the URL of a listener on addr for a browser or curl on this machine.
func baseURL(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "http://" + addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
