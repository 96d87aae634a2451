package e2e_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// notification is the body as a partner reads it.
type notification struct {
	ChangeType        int
	ContextIdentifier string
	VersionName       string
	FileVersion       string
	Token             string
	PublicEndpoint    string
}

// seen is what a receiver knows of one tenant.
type seen struct {
	// last is the highest sequence, status the last of slot status with its sequence.
	last      int64
	sequences map[int]int64 // by slot: 0 status, 1 move, 2 restore
	taken     [3]time.Time  // when these were taken first
	status    int
	endpoint  string
	statuses  int // status notifications since mark
}

// receiver is a partner's app: it verifies what it gets and remembers the last of each tenant.
type receiver struct {
	t        testing.TB
	id       string
	url      string
	listener atomic.Pointer[http.Server]
	addr     string
	secret   string
	jwks     func() *jose.JSONWebKeySet

	// answer decides the status; 0 is 200.
	answer func(n notification) int
	// behave, when it is set, may handle a request itself, and then returns true.
	behave func(w http.ResponseWriter, req *http.Request) bool
	// lean forgets the ids: a duplicate is then what bears the last sequence of its tenant and slot.
	lean bool
	// onTake, when it is set, hears of each notification that is taken, in the order of their arrival.
	onTake func(n *notification, seq int64, now time.Time)

	mu         sync.Mutex
	tenants    map[string]*seen
	ids        map[string]int
	arrivals   map[string]time.Time
	posts      int
	duplicates int
	repeats    []repeat
	backwards  []string
	faults     []string
}

func newReceiver(t testing.TB, id string) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{
		t: t, id: id, addr: l.Addr().String(), url: "http://" + l.Addr().String() + "/hook",
		tenants: map[string]*seen{}, ids: map[string]int{}, arrivals: map[string]time.Time{},
	}
	r.serve(l)
	t.Cleanup(r.stop)
	return r
}

func (r *receiver) serve(l net.Listener) {
	s := &http.Server{Handler: http.HandlerFunc(r.handle), ReadHeaderTimeout: 10 * time.Second}
	r.listener.Store(s)
	go func() { _ = s.Serve(l) }()
}

// stop makes the endpoint refuse connections.
func (r *receiver) stop() {
	if s := r.listener.Swap(nil); s != nil {
		_ = s.Close()
	}
}

// start lets it answer again on the same address.
func (r *receiver) start() {
	r.t.Helper()
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.serve(l)
}

func slotOf(changeType int) int {
	switch changeType {
	case 5:
		return 1
	case 1:
		return 2
	default:
		return 0
	}
}

func (r *receiver) handle(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	if r.behave != nil && r.behave(w, req) {
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	var n notification
	if err := json.Unmarshal(body, &n); err != nil {
		r.fault("body: " + err.Error())
	}
	checkPush(body)
	r.verify(req.Header, body, &n)
	if r.answer != nil {
		if status := r.answer(n); status != 0 && status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
	}
	r.take(req.Header, &n, now)
	w.WriteHeader(http.StatusOK)
}

func (r *receiver) fault(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, what)
}

// verify checks Token and signature as the receiver's guide says.
func (r *receiver) verify(h http.Header, body []byte, n *notification) {
	if r.jwks == nil {
		return
	}
	tok, err := jwt.ParseSigned(n.Token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		r.fault("token: " + err.Error())
		return
	}
	keys := r.jwks().Key(tok.Headers[0].KeyID)
	if len(keys) != 1 {
		r.fault("token: unknown kid")
		return
	}
	var c jwt.Claims
	if err := tok.Claims(keys[0].Key, &c); err != nil {
		r.fault("token: " + err.Error())
		return
	}
	err = c.Validate(jwt.Expected{Issuer: "https://online.superoffice.com", Subject: n.ContextIdentifier, AnyAudience: jwt.Audience{"spn:" + r.id}, Time: time.Now()})
	if err != nil {
		r.fault("token: " + err.Error())
	}
	wh, err := standardwebhooks.NewWebhook(r.secret)
	if err != nil {
		r.fault("secret: " + err.Error())
		return
	}
	if err := wh.Verify(body, h); err != nil {
		r.fault("signature: " + err.Error())
	}
}

func (r *receiver) take(h http.Header, n *notification, now time.Time) {
	seq, err := strconv.ParseInt(h.Get("x-state-sequence"), 10, 64)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.faults = append(r.faults, "sequence: "+err.Error())
	}
	r.posts++
	s := r.tenants[n.ContextIdentifier]
	if s == nil {
		s = &seen{sequences: map[int]int64{}}
		r.tenants[n.ContextIdentifier] = s
	}
	if seq < s.last {
		r.backwards = append(r.backwards, n.ContextIdentifier+": "+strconv.FormatInt(seq, 10)+" after "+strconv.FormatInt(s.last, 10))
	}
	s.last = max(s.last, seq)
	if r.onTake != nil {
		r.onTake(n, seq, now)
	}
	slot := slotOf(n.ChangeType)
	if r.again(h.Get("webhook-id"), now, s.sequences[slot] == seq) {
		r.duplicates++
		r.repeats = append(r.repeats, repeat{tenant: n.ContextIdentifier, first: s.taken[slot], again: now})
	} else {
		s.taken[slot] = now
	}
	s.sequences[slot] = seq
	if slot == 0 {
		s.status = n.ChangeType
		s.statuses++
	}
	if slot == 1 {
		s.endpoint = n.PublicEndpoint
	}
}

// again reports whether a notification came before. The caller holds the lock.
func (r *receiver) again(id string, now time.Time, same bool) bool {
	if r.lean {
		return same
	}
	if r.ids[id]++; r.ids[id] > 1 {
		return true
	}
	r.arrivals[id] = now
	return false
}

// mark starts counting statuses anew.
func (r *receiver) mark() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.tenants {
		s.statuses = 0
	}
}

// healthy fails the test when the receiver saw something it must never see.
func (r *receiver) healthy() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.faults) > 0 {
		r.t.Errorf("%s could not verify %d notifications, such as: %s", r.id, len(r.faults), r.faults[0])
	}
	if len(r.backwards) > 0 {
		r.t.Errorf("%s saw order go backwards %d times: %s", r.id, len(r.backwards), strings.Join(r.backwards[:min(3, len(r.backwards))], "; "))
	}
}

// register creates the app, with its receiver's verification set up, and approves tenants.
func (s *stack) register(r *receiver, alg string, tenants []string) {
	s.t.Helper()
	var app struct {
		WebhookSecret string `json:"webhook_secret"`
	}
	body := `{"name":"` + r.id + `","token_algorithm":"` + alg + `","technical_contact":{"name":"Kim","email":"kim@` + r.id + `.example"},` +
		`"endpoints":{"state_change":{"url":"` + r.url + `","enabled":true}}}`
	s.want(http.StatusCreated, &app, http.MethodPut, "/v1/apps/"+r.id, body)
	r.secret = app.WebhookSecret
	keys := s.keys() // before anything is killed: a partner keeps the keys it has fetched
	r.jwks = func() *jose.JSONWebKeySet { return keys }
	var lines strings.Builder
	for _, t := range tenants {
		lines.WriteString(`{"tenant":"` + t + `"}` + "\n")
	}
	status, b := s.call(http.MethodPut, "/v1/apps/"+r.id+"/approvals", "application/x-ndjson", []byte(lines.String()))
	if status != http.StatusOK || strings.Count(string(b), `"status":204`) != len(tenants) {
		s.t.Fatalf("approve %d tenants for %s: status %d: %s", len(tenants), r.id, status, tail(b, 300))
	}
}

// keys fetches the signing keys by the discovery document, as partners do.
func (s *stack) keys() *jose.JSONWebKeySet {
	var doc struct {
		JWKSURI string `json:"jwks_uri"`
	}
	s.get("http://"+s.api+"/login/.well-known/openid-configuration", &doc)
	var set jose.JSONWebKeySet
	s.get(doc.JWKSURI, &set)
	return &set
}

// get reads what an API answers.
func (s *stack) get(url string, v any) {
	s.t.Helper()
	getBy(s.t, platform, url, v)
}

// get reads what another service answers.
func get(t testing.TB, url string, v any) {
	t.Helper()
	getBy(t, http.DefaultClient, url, v)
}

func getBy(t testing.TB, client *http.Client, url string, v any) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		t.Errorf("%s: %v", url, err)
	}
}

func tenantNames(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "Cust" + strconv.Itoa(10001+i)
	}
	return slices.Clip(out)
}
