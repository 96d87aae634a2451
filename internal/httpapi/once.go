package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// Outcomes keeps what a POST was answered under its Idempotency-Key.
type Outcomes interface {
	// BeginOnce claims a key, or says what came of an earlier run. Errors: registry.ErrKeyReused,
	// registry.ErrUnreadable.
	BeginOnce(ctx context.Context, o registry.Once) (registry.Begun, error)
	// SettleOnce ends a run with its outcome; an empty one forgets the key.
	SettleOnce(ctx context.Context, o registry.Once, run string, outcome []byte) (settled bool, err error)
}

const (
	// onceWithin is how long a run's claim holds: longer than any such request and what follows it.
	onceWithin = requestWithin + eventsWithin + 20*time.Second
	// settleWithin bounds the writing of an outcome, which the caller's leaving does not stop.
	settleWithin = 5 * time.Second
	// replayedHeader marks an answer that was given before.
	replayedHeader = "Idempotent-Replayed"
)

// once reports whether the operation is carried out once per Idempotency-Key as a whole. Bodies of
// lines have an outcome for each line, in the registry's own scripts.
func (r route) once() bool { return r.idempotent() && r.body != jsonOrLines }

// outcome is a kept answer.
type outcome struct {
	V      int               `json:"v"`
	Status int               `json:"status"`
	Header map[string]string `json:"header"`
	Body   []byte            `json:"body"`
}

// once carries a request out under its Idempotency-Key: the first success is kept and told to
// every repeat. A failure is not kept, as nothing is known to be done: a repeat runs again. So
// does one after a crash between the write and its outcome, once the dead run's claim has ended.
func (a *API) once(c *call, rt route) error {
	key, err := idempotencyKey(c.r.Header, "")
	if err != nil {
		return err
	}
	if key == "" || a.Outcomes == nil {
		return rt.handle(c)
	}
	o := registry.Once{Caller: callerScope(c), Key: key, Within: onceWithin}
	if o.Digest, err = c.digest(); err != nil {
		return err
	}
	begun, err := a.Outcomes.BeginOnce(c.ctx(), o)
	switch {
	case errors.Is(err, registry.ErrUnreadable):
		return outcomeLost()
	case err != nil:
		a.forget(c, o, begun.Run)
		return err
	}
	switch begun.State {
	case registry.OnceDone:
		return c.replay(begun.Outcome)
	case registry.OnceBusy:
		return stillRunning(begun.Wait)
	case registry.OnceFull:
		return tooMany(budgetKeys, fmt.Sprintf("The caller has %d idempotency keys within their time: send the request without one, or later.", registry.OnceMax), begun.Wait)
	default:
		return a.run(c, rt, o, begun.Run)
	}
}

// forget takes back the claim of a run that does not begin, which may have been written although its
// answer was lost or too few replicas had it: else repeats would be told for a while that it runs.
func (a *API) forget(c *call, o registry.Once, run string) {
	if run == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), settleWithin)
	defer cancel()
	_, _ = a.Outcomes.SettleOnce(ctx, o, run, nil) // the claim ends by itself, too
}

// run carries the request out and keeps its success.
func (a *API) run(c *call, rt route, o registry.Once, run string) error {
	kept := &keeper{ResponseWriter: c.w}
	c.w = kept
	var result []byte
	defer func() { // a panic forgets the key, too
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), settleWithin)
		defer cancel()
		settled, err := a.Outcomes.SettleOnce(ctx, o, run, result)
		if err != nil || !settled {
			a.Log.LogAttrs(ctx, slog.LevelWarn, "the answer under an idempotency key was not kept: a repeat runs again",
				slog.String("request_id", c.id), slog.String("operation", rt.operation), slog.Any("err", err))
		}
	}()
	err := rt.handle(c)
	if err == nil && kept.status >= 200 && kept.status < 300 {
		result, err = kept.outcome()
	}
	return err
}

// replay answers as the first time.
func (c *call) replay(kept []byte) error {
	var o outcome
	if err := json.Unmarshal(kept, &o); err != nil || o.V != 1 {
		return fmt.Errorf("an outcome of format %d: %w", o.V, registry.ErrUnreadable)
	}
	h := c.w.Header()
	for name, value := range o.Header {
		h.Set(name, value)
	}
	h.Set(replayedHeader, "true")
	send(c.w, o.Status, o.Header["Content-Type"], o.Body)
	return nil
}

// digest stands for the request: its operation, its query and its body, however that is spelt.
func (c *call) digest() (string, error) {
	body, err := c.read()
	if err != nil {
		return "", err
	}
	var doc any
	if len(bytes.TrimSpace(body)) > 0 {
		if doc, err = c.document(); err != nil {
			return "", err
		}
	}
	return digest([]any{c.r.Method, c.r.URL.Path, c.r.URL.Query().Encode(), doc}), nil
}

// callerScope is whose idempotency keys a caller's are. It outlives a token, so that a repeat after
// a change of tokens is still one.
func callerScope(c *call) string { return c.actor.Role + "\n" + c.actor.Name }

// keeper remembers an answer that it passes on.
type keeper struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

// WriteHeader remembers the status.
func (k *keeper) WriteHeader(status int) {
	if k.status == 0 {
		k.status = status
	}
	k.ResponseWriter.WriteHeader(status)
}

// Write remembers the body.
func (k *keeper) Write(b []byte) (int, error) {
	k.body.Write(b)
	return k.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (k *keeper) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (k *keeper) outcome() ([]byte, error) {
	o := outcome{V: 1, Status: k.status, Header: map[string]string{}, Body: k.body.Bytes()}
	for _, name := range []string{"Content-Type", "ETag", "Location"} {
		if v := k.Header().Get(name); v != "" {
			o.Header[name] = v
		}
	}
	return json.Marshal(o)
}

func stillRunning(wait time.Duration) *Problem {
	p := newProblem(http.StatusConflict, "idempotency-key-busy", "The same request is under way",
		"A request with this Idempotency-Key is being carried out: repeat it after the time in Retry-After to learn what came of it.")
	p.retryAfter = min(max(wait, time.Second), retryBusy)
	return p
}

// retryBusy is how long a repeat should wait at most: a run mostly ends long before its claim.
const retryBusy = 2 * time.Second

func outcomeLost() *Problem {
	p := keyReused()
	p.Detail = "The request was carried out, but its answer was sealed with an encryption key that is gone: look what it did, and use a new key."
	return p
}
