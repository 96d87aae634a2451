// Command go is a receiver of state changes in Go.
//
//	go get github.com/go-jose/go-jose/v4 github.com/standard-webhooks/standard-webhooks/libraries
//	DISCOVERY_URL=… ISSUER=… CLIENT_ID=… WEBHOOK_SECRET=whsec_… go run .
//
// PORT (0 picks a free one) and INBOX_FILE are optional. It logs one JSON line per event.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const maxBody = 64 << 10

type refused struct {
	status    int
	part, why string
}

func (r *refused) Error() string { return r.part + ": " + r.why }

// region signature

// verifySignature needs the body as it arrived, before any parsing.
func (r *receiver) verifySignature(body []byte, h http.Header) error {
	if err := r.webhook.Verify(body, h); err != nil {
		return &refused{http.StatusUnauthorized, "signature", err.Error()}
	}
	return nil
}

// endregion

// region token

// keys are the sender's public keys, found by discovery. They are fetched again when they are old
// and for a kid that is not among them.
type keys struct {
	discoveryURL string
	client       *http.Client

	mu      sync.Mutex
	set     jose.JSONWebKeySet
	fetched time.Time
}

var errUnknownKey = errors.New("no published key has this kid")

func (k *keys) find(ctx context.Context, kid string) (any, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := k.set.Key(kid)
	if len(found) == 0 || time.Since(k.fetched) > 10*time.Minute {
		if err := k.fetch(ctx); err != nil {
			return nil, err
		}
		found = k.set.Key(kid)
	}
	if len(found) == 0 {
		return nil, errUnknownKey
	}
	return found[0].Key, nil
}

func (k *keys) fetch(ctx context.Context) error {
	var discovery struct {
		JWKSURI string `json:"jwks_uri"`
	}
	if err := k.get(ctx, k.discoveryURL, &discovery); err != nil {
		return fmt.Errorf("fetch the discovery document: %w", err)
	}
	var set jose.JSONWebKeySet
	if err := k.get(ctx, discovery.JWKSURI, &set); err != nil {
		return fmt.Errorf("fetch the keys: %w", err)
	}
	k.set, k.fetched = set, time.Now()
	return nil
}

func (k *keys) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("the answer is " + resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(into)
}

func (r *receiver) verifyToken(ctx context.Context, token, tenant string) error {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		return &refused{http.StatusUnauthorized, "token", err.Error()}
	}
	key, err := r.keys.find(ctx, parsed.Headers[0].KeyID)
	switch {
	case errors.Is(err, errUnknownKey):
		return &refused{http.StatusUnauthorized, "token", err.Error()}
	case err != nil: // our trouble, not the sender's: ask for another try
		return &refused{http.StatusServiceUnavailable, "keys", err.Error()}
	}
	var claims jwt.Claims
	var own struct {
		Tenant string `json:"http://schemes.superoffice.net/identity/ctx"`
	}
	if err := parsed.Claims(key, &claims, &own); err != nil {
		return &refused{http.StatusUnauthorized, "token", err.Error()}
	}
	expected := jwt.Expected{Issuer: r.issuer, AnyAudience: jwt.Audience{"spn:" + r.clientID}, Time: time.Now()}
	if err := claims.ValidateWithLeeway(expected, 30*time.Second); err != nil || claims.Expiry == nil {
		return &refused{http.StatusUnauthorized, "token", fmt.Sprintf("expired or not for us: %v", err)}
	}
	if own.Tenant != tenant {
		return &refused{http.StatusUnauthorized, "token", "Token is for another tenant"}
	}
	return nil
}

// endregion

// change is what the inbox keeps of a notification.
type change struct {
	WebhookID      string `json:"webhook_id"`
	Tenant         string `json:"tenant"`
	Type           int    `json:"change_type"`
	Sequence       int64  `json:"sequence"`
	PublicEndpoint string `json:"public_endpoint,omitempty"`
}

// region inbox

// inbox holds the sequences received and the work to be done. A file stands in for your
// database: one transaction must hold both the check and the insert.
type inbox struct {
	path string
	more chan struct{} // a hint that there is work

	mu    sync.Mutex
	state state
}

type state struct {
	Tenants map[string]heard `json:"tenants"`
	Work    []change         `json:"work"`
}

type heard struct {
	Sequence int64    `json:"sequence"`
	IDs      []string `json:"ids"`
}

// accept refuses only a smaller sequence: it is outdated. An equal one under a new id is the state
// sent again, and is accepted.
func (b *inbox) accept(c change) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last, known := b.state.Tenants[c.Tenant]
	switch {
	case !known || c.Sequence > last.Sequence:
		last = heard{Sequence: c.Sequence}
	case c.Sequence < last.Sequence:
		return "older", nil
	case slices.Contains(last.IDs, c.WebhookID):
		return "duplicate", nil
	}
	last.IDs = append(slices.Clone(last.IDs[max(0, len(last.IDs)-49):]), c.WebhookID)
	tenants := maps.Clone(b.state.Tenants)
	tenants[c.Tenant] = last
	if err := b.save(state{Tenants: tenants, Work: append(slices.Clone(b.state.Work), c)}); err != nil {
		return "", err
	}
	select {
	case b.more <- struct{}{}:
	default:
	}
	return "new", nil
}

func (b *inbox) save(next state) error {
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(b.path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(b.path+".new", b.path); err != nil {
		return err
	}
	b.state = next // what could not be stored was not accepted
	return nil
}

// endregion

func openInbox(path string) (*inbox, error) {
	b := &inbox{path: path, more: make(chan struct{}, 1)}
	text, err := os.ReadFile(path) //nolint:gosec // whoever starts the receiver names the file
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(text, &b.state); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
	}
	if b.state.Tenants == nil {
		b.state.Tenants = map[string]heard{}
	}
	return b, nil
}

func (b *inbox) first() (change, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.state.Work) == 0 {
		return change{}, false
	}
	return b.state.Work[0], true
}

func (b *inbox) done() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.save(state{Tenants: b.state.Tenants, Work: b.state.Work[1:]})
}

// region receive

type receiver struct {
	issuer, clientID string
	webhook          *standardwebhooks.Webhook
	keys             *keys
	inbox            *inbox
	log              func(event string, fields map[string]any)
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c, err := r.verify(w, req)
	verdict := ""
	if err == nil {
		verdict, err = r.inbox.accept(c)
	}
	if err != nil {
		r.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent) // stored: the sender need not wait for the work
	event := "ignored"
	if verdict == "new" {
		event = "accepted"
	}
	r.log(event, c.fields("why", verdict))
}

func (r *receiver) verify(w http.ResponseWriter, req *http.Request) (change, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		return change{}, &refused{http.StatusBadRequest, "body", err.Error()}
	}
	if err := r.verifySignature(body, req.Header); err != nil {
		return change{}, err
	}
	var n struct {
		ChangeType               *int
		ContextIdentifier, Token string
		PublicEndpoint           string
	}
	sequence, err := strconv.ParseInt(req.Header.Get("x-state-sequence"), 10, 64)
	if err := errors.Join(err, json.Unmarshal(body, &n)); err != nil || n.ChangeType == nil {
		return change{}, &refused{http.StatusBadRequest, "body", fmt.Sprintf("not a state change: %v", err)}
	}
	if err := r.verifyToken(req.Context(), n.Token, n.ContextIdentifier); err != nil {
		return change{}, err
	}
	return change{
		WebhookID: req.Header.Get("webhook-id"), Tenant: n.ContextIdentifier, Type: *n.ChangeType,
		Sequence: sequence, PublicEndpoint: n.PublicEndpoint,
	}, nil
}

// endregion

func (r *receiver) refuse(w http.ResponseWriter, err error) {
	no := &refused{http.StatusInternalServerError, "receiver", err.Error()}
	errors.As(err, &no)
	if no.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "30")
	}
	http.Error(w, no.why, no.status)
	r.log("refused", map[string]any{"status": no.status, "part": no.part, "why": no.why})
}

func (c change) fields(key string, value any) map[string]any {
	return map[string]any{
		key: value, "webhook_id": c.WebhookID, "tenant": c.Tenant, "change_type": c.Type,
		"sequence": c.Sequence, "public_endpoint": c.PublicEndpoint,
	}
}

// region work

// handle is the place of your own calls. A crash between handle and done repeats the last one, so
// make it idempotent.
func handle(ctx context.Context, c change) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err // it stays in the inbox for the next start
	}
	switch c.Type {
	case 0, 2: // Upgrade, Suspend
		return "pause", nil
	case 1: // BackupRestored
		return "resynchronize", nil
	case 3: // Resume
		return "resume", nil
	case 4: // Delete
		return "forget", nil
	case 5: // Move
		return "use " + c.PublicEndpoint, nil
	default: // a type of the future
		return "nothing", nil
	}
}

func (r *receiver) work(ctx context.Context) {
	for {
		wait := time.NewTimer(30 * time.Second)
		if c, ok := r.inbox.first(); ok {
			action, err := handle(ctx, c)
			if err == nil {
				err = r.inbox.done()
			}
			if err == nil {
				r.log("handled", c.fields("action", action))
				continue
			}
			r.log("postponed", map[string]any{"why": err.Error()})
		}
		select {
		case <-ctx.Done():
			return
		case <-r.inbox.more:
		case <-wait.C:
		}
	}
}

// endregion

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // a program starts its own context
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "receiver:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be undone
	}
}

func run(ctx context.Context) error {
	for _, name := range []string{"DISCOVERY_URL", "ISSUER", "CLIENT_ID", "WEBHOOK_SECRET"} {
		if os.Getenv(name) == "" {
			return errors.New(name + " is not set") // go-jose does not check an issuer that is empty
		}
	}
	webhook, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		return err
	}
	box, err := openInbox(or("INBOX_FILE", "inbox.json"))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	r := &receiver{
		issuer: os.Getenv("ISSUER"), clientID: os.Getenv("CLIENT_ID"), webhook: webhook, inbox: box,
		keys: &keys{discoveryURL: os.Getenv("DISCOVERY_URL"), client: &http.Client{Timeout: 3 * time.Second}},
		log: func(event string, fields map[string]any) {
			mu.Lock()
			defer mu.Unlock()
			fields["event"] = event
			_ = out.Encode(fields)
		},
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:"+or("PORT", "0"))
	if err != nil {
		return err
	}
	r.log("listening", map[string]any{"port": listener.Addr().(*net.TCPAddr).Port})
	go r.work(ctx)
	server := &http.Server{Handler: r, ReadTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func or(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
