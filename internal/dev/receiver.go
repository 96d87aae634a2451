package dev

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// maxPush limits the body of a notification; real ones have less than 4 KiB.
	maxPush = 64 << 10
	// maxPairs limits the remembered pairs of app and tenant. Beyond it, only remarks on their order are missing.
	maxPairs = 10_000
	// headerTimeout bounds reading the headers of a request to the servers of this package.
	headerTimeout = 5 * time.Second
)

// pair is an app and a tenant that approved it.
type pair struct{ app, tenant string }

// receiver is the partners' side: one server for all demo apps, each under /hook/{client ID}. It answers 200 to
// notifications that it could verify and 401 to others. While it is stopped, its port refuses connections.
type receiver struct {
	verifier *verifier
	eventLog *eventLog

	mu       sync.Mutex
	addr     string
	server   *http.Server
	stopped  chan struct{}     // closed when server has ended
	last     map[pair]int64    // highest sequence received
	verified map[pair]struct{} // received, and the delivery not yet seen in the log
}

// newReceiver returns a receiver for an address; start binds it.
func newReceiver(addr string, v *verifier, c *eventLog) *receiver {
	return &receiver{verifier: v, eventLog: c, addr: addr, last: map[pair]int64{}, verified: map[pair]struct{}{}}
}

// start binds the port, the same one each time, and serves. It does nothing while the receiver runs.
func (r *receiver) start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		return nil
	}
	l, err := bindAddress(ctx, flagReceiver, r.addr)
	if err != nil {
		return err
	}
	r.addr = l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /hook/{app}", r.receivePush)
	server, stopped := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}, make(chan struct{})
	r.server, r.stopped = server, stopped
	go func() {
		defer close(stopped)
		_ = server.Serve(l)
	}()
	return nil
}

// stop closes the port and all connections.
func (r *receiver) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return
	}
	_ = r.server.Close()
	<-r.stopped
	r.server = nil
}

// hookURL is the URL at which an app's notifications are received.
func (r *receiver) hookURL(app string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return baseURL(r.addr) + "/hook/" + app
}

func (r *receiver) receivePush(w http.ResponseWriter, req *http.Request) {
	app := req.PathValue("app")
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxPush))
	if err != nil {
		http.Error(w, "The body could not be read.", http.StatusBadRequest)
		return
	}
	p, err := r.verifier.verifyPush(req.Context(), app, req.Header, body, time.Now())
	if err != nil {
		r.eventLog.logEvent(eventBad, "unproven", fmt.Sprintf("%s got a notification and refused it: %v", app, err))
		http.Error(w, "This notification is not proven to come from Lamplighter.", http.StatusUnauthorized)
		return
	}
	sequence, _ := strconv.ParseInt(req.Header.Get("x-state-sequence"), 10, 64)
	order := r.recordPush(pair{app, p.ContextIdentifier}, sequence)
	r.eventLog.logEvent(eventGood, "verified", describePush(app, p, order, req.Header.Get("x-state-superseded")))
	w.WriteHeader(http.StatusOK)
}

// recordPush records a verified notification and compares its sequence with the one before.
func (r *receiver) recordPush(at pair, sequence int64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, known := r.last[at]
	if known || len(r.last) < maxPairs {
		r.last[at] = max(last, sequence)
		r.verified[at] = struct{}{}
	}
	switch {
	case sequence < last:
		return "older than what it knows: dropped"
	case known && sequence == last:
		return "told again"
	default:
		return "in order"
	}
}

// consumeVerified reports, once, whether a delivery in the service's log was verified by this receiver.
func (r *receiver) consumeVerified(app, tenant string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.verified[pair{app, tenant}]
	delete(r.verified, pair{app, tenant})
	return ok
}

// describePush says what was received and what was verified.
func describePush(app string, p *pushProof, order, superseded string) string {
	what := p.changeName() + " of " + p.ContextIdentifier
	if p.PublicEndpoint != "" {
		what += " to " + p.PublicEndpoint
	}
	signature := "signature ok"
	if !p.signed {
		signature = "signature not checked (give the secret to the demo server)"
	}
	words := fmt.Sprintf("%s got %s: Token ok (%s, key %.8s), %s, %s", app, what, p.algorithm, p.keyID, signature, order)
	if superseded != "" && superseded != "0" {
		words += ", replaces " + superseded + " older"
	}
	return words
}
