package httpapitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Transport makes requests with next and checks each complete answer against the document. It calls fault for those that
// do not match. An answer that breaks off is not checked.
func (c *Contract) Transport(next http.RoundTripper, fault func(error)) http.RoundTripper {
	return transport{contract: c, next: next, fault: fault}
}

type transport struct {
	contract *Contract
	next     http.RoundTripper
	fault    func(error)
}

// RoundTrip makes the request, and checks the answer before the caller reads it.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	b, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	if err != nil {
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(b), broken{err}))
		return resp, nil
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	if err := t.contract.Check(r, Answer{Status: resp.StatusCode, Header: resp.Header, Body: b}); err != nil {
		t.fault(fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err))
	}
	return resp, nil
}

// broken is the end of a body that was cut off.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }
