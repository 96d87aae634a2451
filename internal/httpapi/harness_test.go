package httpapi_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/httpapi/httpapitest"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redisconn"
)

var start = time.Date(2026, 11, 24, 10, 15, 30, 500, time.UTC)

// harness is an API over a world, with a clock that stands still until it is moved.
type harness struct {
	*world
	t       *testing.T
	api     *httpapi.API
	handler http.Handler
	now     atomic.Pointer[time.Time]
	log     *buffer
	reg     *prometheus.Registry
}

// buffer is a log that may be written while it is read.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// counting is randomness that repeats itself from run to run.
type counting struct{ n atomic.Uint32 }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		n := c.n.Add(1)
		sum := sha256.Sum256([]byte{byte(n), byte(n >> 8), byte(n >> 16)})
		p[i] = sum[0]
	}
	return len(p), nil
}

// deps are what a test may change: the API's dependencies, and those of its writes of apps.
type deps struct {
	httpapi.Deps

	writes apps.Options
}

func newHarness(t *testing.T, change ...func(*deps)) *harness {
	t.Helper()
	h := &harness{t: t, world: newWorld(), log: &buffer{}, reg: prometheus.NewRegistry()}
	h.now.Store(&start)
	w := h.world
	d := deps{Deps: httpapi.Deps{
		Environment: partner.Online, Tokens: w, TokenKeeper: w, TokenUses: w, Apps: w, HealthReader: w, Tester: w, Approvals: w,
		ApprovalList: w, Resyncer: w, Jobs: fakeJobs{w}, Mailboxes: w, Deliveries: w, Explainer: w, Tenants: w, Statuses: w, Changes: w, Keys: w, IdempotencyStore: &fakeOutcomes{kept: map[string]*keptOutcome{}}, Incidents: w, Audit: w, ConfigFeed: &fakeFeed{world: w}, ErrorReports: w, Auditor: w, Resealer: w, MailSubscriptions: &desk{world: w}, Store: fakeWatch{w},
		Discovery:  func() []byte { return []byte(`{"issuer":"https://online.superoffice.com"}`) },
		JWKS:       func() []byte { return []byte(`{"keys":[]}`) },
		StoreFault: func(err error) string { return string(redisconn.ClassifyFault(err)) },
		Now:        func() time.Time { return *h.now.Load() }, Random: &counting{}, Registerer: h.reg,
		Log: slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}}
	d.writes = apps.Options{Store: w, Effects: w, Addresses: w, Prober: w, Environment: partner.Online, Now: d.Now, Random: d.Random, Log: d.Log}
	for _, f := range change {
		f(&d)
	}
	if d.AppWriter == nil {
		d.writes.Licences = d.Licences
		d.AppWriter = apps.New(d.writes)
	}
	h.api = httpapi.New(d.Deps)
	h.handler = h.api.AdminHandler()
	return h
}

func (h *harness) advance(d time.Duration) {
	t := h.now.Load().Add(d)
	h.now.Store(&t)
}

// request is one request of a test; zero members have sensible meanings.
type request struct {
	method, path, role string
	body               string
	contentType        string
	header             map[string]string
	from               string
}

func (r request) make() *http.Request {
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req := httptest.NewRequest(r.method, r.path, body)
	if r.role != "" {
		req.Header.Set("Authorization", "Bearer "+tokenOf(r.role))
	}
	switch {
	case r.contentType != "":
		req.Header.Set("Content-Type", r.contentType)
	case r.method == http.MethodPatch:
		req.Header.Set("Content-Type", "application/merge-patch+json")
	case r.body != "":
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	if r.from != "" {
		req.RemoteAddr = r.from
	}
	return req
}

// do answers a request, and fails the test where the document does not foresee the answer.
func (h *harness) do(r request) *httptest.ResponseRecorder {
	rec := h.answer(r)
	if err := h.foreseen(r.make(), rec); err != nil {
		h.t.Errorf("answer against the document: %v\n%s", err, rec.Body)
	}
	return rec
}

func (h *harness) answer(r request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.handler.ServeHTTP(rec, r.make())
	return rec
}

func (h *harness) foreseen(r *http.Request, rec *httptest.ResponseRecorder) error {
	c, err := contractOf(h.t.Context(), h.api)
	if err != nil {
		return err
	}
	return c.Check(r, httpapitest.Answer{Status: rec.Code, Header: rec.Header(), Body: rec.Body.Bytes()})
}

// want fails unless the answer has the status, and returns its JSON object.
func (h *harness) want(t *testing.T, status int, r request) map[string]any {
	t.Helper()
	rec := h.do(r)
	if rec.Code != status {
		t.Fatalf("%s %s = %d, want %d: %s", r.method, r.path, rec.Code, status, rec.Body)
	}
	if rec.Body.Len() == 0 {
		return nil
	}
	var out map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s %s: answer is no JSON object: %v: %s", r.method, r.path, err, rec.Body)
	}
	return out
}

const appBody = `{"name":"Awesome App","technical_contact":{"name":"Kim","email":"kim@example.com"},"endpoints":{"state_change":{"url":"https://partner.example/hook","enabled":true}}}`

// withApp makes app1.
func (h *harness) withApp(t *testing.T) *harness {
	t.Helper()
	h.want(t, http.StatusCreated, request{method: "PUT", path: "/v1/apps/app1", role: "admin", body: appBody})
	return h
}

// pointers lists what a problem's errors point at.
func pointers(problem map[string]any) []string {
	var out []string
	list, _ := problem["errors"].([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		p, _ := m["pointer"].(string)
		out = append(out, p)
	}
	return out
}
