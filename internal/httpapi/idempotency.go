package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// IdempotencyStore keeps the answers of POSTs under their Idempotency-Keys.
type IdempotencyStore interface {
	// ClaimIdempotencyKey claims a key, or returns the outcome of an earlier run. Errors: registry.ErrKeyReused,
	// registry.ErrUnreadable.
	ClaimIdempotencyKey(ctx context.Context, o registry.IdempotencyRecord) (registry.IdempotencyClaim, error)
	// SettleIdempotencyKey ends a run with its outcome; an empty one forgets the key.
	SettleIdempotencyKey(ctx context.Context, o registry.IdempotencyRecord, run string, outcome []byte) (settled bool, err error)
}

const (
	// onceWithin is how long a run's claim holds: longer than any such request and the work after it.
	onceWithin = requestWithin + apps.EffectsWithin + 20*time.Second
	// settleWithin bounds the writing of an outcome, which continues when the caller disconnects.
	settleWithin = 5 * time.Second
	// replayedHeader marks the answer to a repeat.
	replayedHeader = "Idempotent-Replayed"
)

// runsOncePerKey reports whether the operation has one outcome per Idempotency-Key. Bodies of lines have an outcome for
// each line, which the registry's scripts keep.
func (r route) runsOncePerKey() bool { return r.isIdempotent() && r.body != jsonOrLines }

// storedAnswer is a stored answer. For one without a body, a repeat reads the present state.
type storedAnswer struct {
	V      int               `json:"v"`
	Status int               `json:"status"`
	Header map[string]string `json:"header"`
	Body   []byte            `json:"body"`
}

const (
	// formatWhole is the format of an outcome with its body, formatReread of one without.
	formatWhole, formatReread = 1, 2
	// keptBody bounds the body of an outcome: in JSON and sealed it takes less than registry.IdempotencyAnswerMax.
	keptBody = 2000
	// keptByPartner is how many keys all tokens of one app's partner have together.
	keptByPartner = 100
)

// runIdempotent executes a request under its Idempotency-Key. The first success is stored, and each repeat gets the same
// answer. An answer that can be read again is not stored: a repeat gets the present state. A failure is not stored, since
// nothing may be done yet: a repeat runs again. So does a repeat after a crash between the write and the storing of its
// outcome, once the claim of the first run has expired.
func (a *API) runIdempotent(c *call, rt route) error {
	key, err := readIdempotencyKey(c.r.Header, "")
	if err != nil {
		return err
	}
	if key == "" || a.IdempotencyStore == nil {
		return rt.handle(c)
	}
	o, err := a.newIdempotencyRecord(c)
	if err != nil {
		return err
	}
	o.Key, o.Within = key, onceWithin
	if o.Digest, err = c.digestRequest(); err != nil {
		return err
	}
	begun, err := a.IdempotencyStore.ClaimIdempotencyKey(c.ctx(), o)
	switch {
	case errors.Is(err, registry.ErrUnreadable):
		return answerLostProblem()
	case err != nil:
		a.releaseIdempotencyKey(c, o, begun.Run)
		return err
	}
	switch begun.State {
	case registry.IdempotencyDone:
		return a.replayAnswer(c, rt, begun.Answer)
	case registry.IdempotencyBusy:
		return stillRunningProblem(begun.Wait)
	case registry.IdempotencyFull:
		return tooManyRequestsProblem(budgetKeys, fmt.Sprintf("The caller has %d idempotency keys within their time: send the request without one, or later.", maxIdempotencyKeys(o)), begun.Wait)
	default:
		return a.runAndStoreAnswer(c, rt, o, begun.Run)
	}
}

func maxIdempotencyKeys(o registry.IdempotencyRecord) int {
	if o.Most > 0 {
		return o.Most
	}
	return registry.IdempotencyKeysMax
}

// newIdempotencyRecord names the key's owner and the budget that it counts to. The life of the app is part of both, so
// that a later app with the same id gets no answer that an earlier one got.
func (a *API) newIdempotencyRecord(c *call) (registry.IdempotencyRecord, error) {
	o := registry.IdempotencyRecord{Caller: callerScope(c)}
	app := partner.ClientID(c.r.PathValue("client_id"))
	if c.role.Kind == Partner {
		app = c.role.App
	}
	birth := int64(0)
	if app != "" && a.Apps != nil {
		id, err := partner.ParseClientID(string(app))
		if err != nil {
			return o, invalidProblem(FieldError{Pointer: "/client_id", Detail: err.Error()})
		}
		switch rec, err := a.Apps.App(c.ctx(), id); {
		case err == nil:
			birth = rec.Birth
		case !errors.Is(err, registry.ErrNotFound): // the handler answers for an app that does not exist
			return o, err
		}
	}
	if birth > 0 {
		o.Caller += "\n" + strconv.FormatInt(birth, 10)
	}
	if c.role.Kind == Partner {
		o.Owner, o.Most = c.actor.Role+"\n"+strconv.FormatInt(birth, 10), keptByPartner
	} else {
		o.Owner = callerScope(c)
	}
	return o, nil
}

// releaseIdempotencyKey releases the claim of a run that does not begin. The claim may be stored although its answer was
// lost, or too few replicas confirmed it. Without the release, repeats would be answered for a while that it runs.
func (a *API) releaseIdempotencyKey(c *call, o registry.IdempotencyRecord, run string) {
	if run == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), settleWithin)
	defer cancel()
	_, _ = a.IdempotencyStore.SettleIdempotencyKey(ctx, o, run, nil) // the claim also expires by itself
}

// runAndStoreAnswer executes the request and stores the answer of a success.
func (a *API) runAndStoreAnswer(c *call, rt route, o registry.IdempotencyRecord, run string) error {
	kept := &responseRecorder{ResponseWriter: c.w}
	c.w = kept
	var result []byte
	defer func() { // a panic also releases the key
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), settleWithin)
		defer cancel()
		settled, err := a.IdempotencyStore.SettleIdempotencyKey(ctx, o, run, result)
		if err != nil || !settled {
			a.Log.LogAttrs(ctx, slog.LevelWarn, "the answer under an idempotency key was not stored: a repeat runs again",
				slog.String("request_id", c.id), slog.String("operation", rt.operation), slog.Any("err", err))
		}
	}()
	err := rt.handle(c)
	if err == nil && kept.status >= 200 && kept.status < 300 {
		result, err = kept.encodeAnswer(a.rereadHandler(rt) != nil)
	}
	return err
}

// replayAnswer sends the stored answer, or the present state.
func (a *API) replayAnswer(c *call, rt route, kept []byte) error {
	var o storedAnswer
	if err := json.Unmarshal(kept, &o); err != nil || o.V != formatWhole && o.V != formatReread {
		return fmt.Errorf("an outcome of format %d: %w", o.V, registry.ErrUnreadable)
	}
	h := c.w.Header()
	again := a.rereadHandler(rt)
	switch {
	case o.V == formatWhole:
	case again == nil:
		return answerTooLongProblem()
	default:
		h.Set(replayedHeader, "true")
		return again(c)
	}
	for name, value := range o.Header {
		h.Set(name, value)
	}
	h.Set(replayedHeader, "true")
	sendBody(c.w, o.Status, o.Header["Content-Type"], o.Body)
	return nil
}

// rereadHandler is the handler that reads an operation's answer again, nil when the answer has to be stored.
func (a *API) rereadHandler(rt route) handler {
	if rt.operation != "pause" && rt.operation != "resume" {
		return nil
	}
	return func(c *call) error {
		rec, err := a.readPathApp(c)
		if err != nil {
			return err
		}
		return a.answerApp(c, apps.Result{Record: rec})
	}
}

// digestRequest is a digest of the operation, the query and the body, the same for all spellings of the body.
func (c *call) digestRequest() (string, error) {
	body, err := c.readBody()
	if err != nil {
		return "", err
	}
	var doc any
	if len(bytes.TrimSpace(body)) > 0 {
		if doc, err = c.readDocument(); err != nil {
			return "", err
		}
	}
	return digestJSON([]any{c.r.Method, c.r.URL.Path, c.r.URL.Query().Encode(), doc}), nil
}

// callerScope is the owner of a caller's idempotency keys. It does not depend on the token, so that a repeat with another
// token of the same name and role is recognised.
func callerScope(c *call) string { return c.actor.Role + "\n" + c.actor.Name }

// responseRecorder records the answer that it passes on.
type responseRecorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

// WriteHeader remembers the status.
func (k *responseRecorder) WriteHeader(status int) {
	if k.status == 0 {
		k.status = status
	}
	k.ResponseWriter.WriteHeader(status)
}

// Write records as much of the body as may be stored, and one byte more.
func (k *responseRecorder) Write(b []byte) (int, error) {
	k.body.Write(b[:min(len(b), keptBody+1-k.body.Len())])
	return k.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (k *responseRecorder) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (k *responseRecorder) encodeAnswer(readAgain bool) ([]byte, error) {
	if readAgain || k.body.Len() > keptBody {
		return json.Marshal(storedAnswer{V: formatReread, Status: k.status})
	}
	o := storedAnswer{V: formatWhole, Status: k.status, Header: map[string]string{}, Body: k.body.Bytes()}
	for _, name := range []string{"Content-Type", "ETag", "Location"} {
		if v := k.Header().Get(name); v != "" {
			o.Header[name] = v
		}
	}
	return json.Marshal(o)
}

func stillRunningProblem(wait time.Duration) *Problem {
	p := newProblem(http.StatusConflict, "idempotency-key-busy", "The same request is under way",
		"A request with this Idempotency-Key is being carried out: repeat it after the time in Retry-After to get its answer.")
	p.retryAfter = min(max(wait, time.Second), retryBusy)
	return p
}

// retryBusy bounds the Retry-After of a repeat: a run usually ends long before its claim.
const retryBusy = 2 * time.Second

func answerTooLongProblem() *Problem {
	p := keyReusedProblem()
	p.Title, p.Detail = "The request was carried out", "Its answer was too long to be stored: check what it did, and use a new key for a new request."
	return p
}

func answerLostProblem() *Problem {
	p := keyReusedProblem()
	p.Detail = "The request was carried out, but its answer was sealed with an encryption key that was removed: check what it did, and use a new key."
	return p
}
