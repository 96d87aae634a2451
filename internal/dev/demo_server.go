package dev

import (
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
)

// maxSecretBody limits the body for /secrets: an app as the admin API answers it, or less.
const maxSecretBody = 1 << 20

var webhookSecret = regexp.MustCompile(`whsec_[A-Za-z0-9+/]+={0,2}`)

// demoServer lists the caught mails and starts or stops the receiver. It stays reachable while the receiver is
// stopped.
type demoServer struct {
	receiver *receiver
	mails    *receivedMails
	eventLog *eventLog
	help     string
}

// serve answers on a listener until stop is called.
func (d *demoServer) serve(l net.Listener) (stop func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { d.writeText(w, d.help) })
	mux.HandleFunc("GET /mails", func(w http.ResponseWriter, _ *http.Request) {
		d.writeText(w, "")
		d.mails.writeAll(w)
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		d.receiver.stop()
		d.eventLog.logEvent(eventPlain, "receiver", "stopped: its port refuses connections now")
		d.writeText(w, "The receiver is stopped.\n")
	})
	mux.HandleFunc("POST /start", d.startReceiver)
	mux.HandleFunc("POST /secrets/{app}", d.receiveSecret)
	server, done := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}, make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	return func() {
		_ = server.Close()
		<-done
	}
}

func (d *demoServer) startReceiver(w http.ResponseWriter, r *http.Request) {
	if err := d.receiver.start(r.Context()); err != nil {
		http.Error(w, "The receiver cannot start: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	d.eventLog.logEvent(eventPlain, "receiver", "started: it accepts notifications again")
	d.writeText(w, "The receiver is started.\n")
}

// receiveSecret takes the webhook secret of an app from a body that contains one, such as the admin API's answer to
// the creation of an app.
func (d *demoServer) receiveSecret(w http.ResponseWriter, r *http.Request) {
	app := r.PathValue("app")
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSecretBody))
	if err == nil {
		found := webhookSecret.Find(body)
		if found == nil {
			err = errors.New("no whsec_ in the body: the secret is shown once, when an app is made or its secret rotated")
		} else {
			err = d.receiver.verifier.addSecret(app, string(found))
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.eventLog.logEvent(eventPlain, "receiver", "knows the webhook secret of "+app)
	d.writeText(w, "The receiver checks the signatures of this app now.\n")
}

func (d *demoServer) writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, text)
}
