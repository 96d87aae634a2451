// Package wiretest replaces the wire in tests of senders.
package wiretest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/lamplighter/lamplighter/internal/wire"
)

// headers reads header lines and keeps the spelling of their names, which receivers see.
func headers(lines string) http.Header {
	h := http.Header{}
	for line := range strings.SplitSeq(lines, "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			h[name] = append(h[name], value)
		}
	}
	return h
}

// Over sends requests by a RoundTripper instead of a connection.
type Over struct{ http.RoundTripper }

// Do is like Do of wire.Client.
func (o Over) Do(ctx context.Context, r *wire.Request, read func(*http.Response)) error {
	ctx, cancel := context.WithDeadline(ctx, r.Deadline)
	defer cancel()
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.AppendTo(nil))))
	if err != nil {
		return fmt.Errorf("read what would be sent: %w", err)
	}
	req = req.WithContext(ctx)
	req.Header = headers(string(r.Header))
	req.RequestURI, req.URL.Host, req.URL.Scheme = "", req.Host, "http"
	if r.To.Secure() {
		req.URL.Scheme = "https"
	}
	resp, err := o.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	read(resp)
	_, _ = io.Copy(io.Discard, resp.Body)
	return nil
}
