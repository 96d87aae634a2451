package push_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/push"
	"github.com/lamplighter/lamplighter/internal/signing"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/wire"
	"github.com/lamplighter/lamplighter/internal/wire/wiretest"
)

// The bytes are a contract with receivers that were written years ago.
func TestBody(t *testing.T) {
	t.Parallel()
	rest := `"ContextIdentifier":"Cust12345","VersionName":"Release 8.4 R08","FileVersion":"8.4.12.1234","Token":"` + tokenText + `"`
	want := map[tenant.ChangeType]string{
		tenant.Upgrade:        `{"ChangeType":0,` + rest + `}`,
		tenant.BackupRestored: `{"ChangeType":1,` + rest + `}`,
		tenant.Suspend:        `{"ChangeType":2,` + rest + `}`,
		tenant.Resume:         `{"ChangeType":3,` + rest + `}`,
		tenant.Delete:         `{"ChangeType":4,` + rest + `}`,
		tenant.Move:           `{"ChangeType":5,` + rest + `,"PublicEndpoint":"sod3.superoffice.com"}`,
	}
	bodies := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- string(b)
	}))
	defer srv.Close()
	p := pusher(t, 10*time.Second, nil)
	for _, c := range tenant.AllChangeTypes() {
		if r := p.Post(t.Context(), target(t, srv.URL), message(c)); r.Outcome != delivery.Delivered {
			t.Fatalf("%v: %+v", c, r)
		}
		if d := cmp.Diff(want[c], <-bodies); d != "" {
			t.Errorf("%v: %s", c, d)
		}
	}
	// what JSON must escape, what HTML alone would, and an endpoint where none belongs
	m := message(tenant.Resume)
	m.Change.VersionName, m.Change.FileVersion, m.Change.PublicEndpoint = "a<b>&\"\\\n\u2028é", "", "x.example"
	p.Post(t.Context(), target(t, srv.URL), m)
	if d := cmp.Diff(`{"ChangeType":3,"ContextIdentifier":"Cust12345","VersionName":"a<b>&\"\\\n\u2028é","FileVersion":"","Token":"`+tokenText+`"}`, <-bodies); d != "" {
		t.Error(d)
	}
}

// The names of headers are sent as written here: lower case where the specification has it so.
func TestHeadersAsSent(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 1)
	addr := raw(t, func(c net.Conn) {
		head, _ := readRequest(c)
		heads <- head
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})
	before := time.Now().Unix()
	r := pusher(t, 10*time.Second, nil).Post(t.Context(), target(t, "http://"+addr+"/hook"+query), message(tenant.Suspend))
	if r.Outcome != delivery.Delivered || r.Status != 204 || r.Excerpt != "" || r.Detail != "" || r.Duration <= 0 {
		t.Fatalf("%+v", r)
	}
	lines := strings.Split(strings.TrimSuffix(<-heads, "\r\n\r\n"), "\r\n")
	if lines[0] != "POST /hook"+query+" HTTP/1.1" {
		t.Error(lines[0])
	}
	got := map[string]string{}
	for _, l := range lines[1:] {
		n, v, _ := strings.Cut(l, ": ")
		got[n] = v
	}
	if !strings.HasPrefix(got["webhook-signature"], "v1,") || len(got["webhook-timestamp"]) != 10 || got["webhook-timestamp"] < strconv.FormatInt(before, 10) {
		t.Errorf("signature %q, timestamp %q", got["webhook-signature"], got["webhook-timestamp"])
	}
	delete(got, "webhook-signature")
	delete(got, "webhook-timestamp")
	delete(got, "Content-Length")
	want := map[string]string{
		"Host": addr, "User-Agent": "Lamplighter/1.2.3", "Content-Type": "application/json; charset=utf-8",
		"webhook-id": "chg_Cust12345_1795449600000", "x-state-sequence": "1795449600000", "x-state-superseded": "3",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// An independent library accepts the signature, of both secrets while one rotates, and refuses an
// altered body.
func TestWebhookSignature(t *testing.T) {
	t.Parallel()
	const next = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	type sent struct {
		header http.Header
		body   []byte
	}
	requests := make(chan sent, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		requests <- sent{r.Header.Clone(), b}
	}))
	defer srv.Close()
	tg := target(t, srv.URL)
	tg.WebhookKeys = append(tg.WebhookKeys, key(t, next))
	p := pusher(t, 10*time.Second, nil)
	p.Post(t.Context(), tg, message(tenant.Resume))
	s := <-requests
	for _, text := range []string{whsec, next} {
		wh, err := standardwebhooks.NewWebhook(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := wh.Verify(s.body, s.header); err != nil {
			t.Error(err)
		}
		if wh.Verify(append(s.body, ' '), s.header) == nil {
			t.Error("an altered body was accepted")
		}
	}
	tg.WebhookKeys = nil
	p.Post(t.Context(), tg, message(tenant.Resume))
	if s := <-requests; len(s.header.Values("webhook-signature")) != 0 {
		t.Errorf("signed without a secret: %v", s.header)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	pem, err := signing.GenerateKey(signing.ES256, "test", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	k, err := signing.ParseKey("test", pem)
	if err != nil {
		t.Fatal(err)
	}
	set, err := signing.NewKeySet(k)
	if err != nil {
		t.Fatal(err)
	}
	made, err := signing.NewTokenIssuer(set, "https://sod.superoffice.com")
	if err != nil {
		t.Fatal(err)
	}
	bodies := make(chan []byte, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- b
	}))
	defer srv.Close()
	p := guarded(t, guard.New(guard.Policy{AllowLoopback: true}, nil), wire.Options{}, push.Options{Tokens: made, Timeout: 10 * time.Second, Version: "0"})
	tg := target(t, srv.URL)
	tg.TokenAlgorithm = partner.ES256
	start := time.Now()
	if r := p.Post(t.Context(), tg, message(tenant.Suspend)); r.Outcome != delivery.Delivered {
		t.Fatalf("%+v", r)
	}
	var n struct{ Token string }
	if err := json.Unmarshal(<-bodies, &n); err != nil {
		t.Fatal(err)
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(set.JWKS(), &keys); err != nil {
		t.Fatal(err)
	}
	sig, err := jose.ParseSignedCompact(n.Token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := sig.Verify(keys)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Aud, Iss, Sub string
		Ctx           string `json:"http://schemes.superoffice.net/identity/ctx"`
		Nbf, Exp      int64
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Aud != "spn:app1" || claims.Iss != "https://sod.superoffice.com" || claims.Sub != "Cust12345" || claims.Ctx != "Cust12345" {
		t.Errorf("claims %+v", claims)
	}
	if n, e := time.Unix(claims.Nbf, 0).Sub(start), time.Unix(claims.Exp, 0).Sub(start); n > -58*time.Second || e < 298*time.Second {
		t.Errorf("valid from %v to %v after now", n, e)
	}
}

func TestTheTokenIsForTheAppAndTenant(t *testing.T) {
	t.Parallel()
	k := &tokens{}
	p := push.New(push.Options{Wire: wiretest.Over{RoundTripper: failingTransport{io.EOF}}, Check: url.Parse, Tokens: k, Timeout: 7 * time.Second})
	p.Post(t.Context(), target(t, "https://partner.example/"), message(tenant.Suspend))
	if d := cmp.Diff([]string{"app1", "Cust12345", "RS256"}, k.asked); d != "" {
		t.Error(d)
	}
}

func TestStatusAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code   int
		after  string
		body   string
		want   delivery.Result
		status int
	}{
		"OK":              {200, "60", "thanks", delivery.Result{Outcome: delivery.Delivered, Status: 200}, 0},
		"Refused":         {422, "60", "no such\x1b[31m tenant", delivery.Result{Outcome: delivery.Rejected, Reason: delivery.ReasonClientError, Fault: delivery.FaultNotification, Status: 422, Detail: "HTTP status 422", Excerpt: "no such tenant"}, 0},
		"TooMany":         {429, "60", "", delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonRateLimited, Status: 429, Wait: true, RetryAfter: time.Minute, Detail: "HTTP status 429"}, 0},
		"Unavailable":     {503, "7200", "", delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonServerError, Fault: delivery.FaultEndpoint, Status: 503, Wait: true, RetryAfter: time.Hour, Detail: "HTTP status 503"}, 0},
		"ServerError":     {500, "60", "", delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonServerError, Fault: delivery.FaultEndpoint, Status: 500, Detail: "HTTP status 500"}, 0},
		"Gone":            {410, "", "", delivery.Result{Outcome: delivery.Gone, Reason: delivery.ReasonGone, Fault: delivery.FaultEndpoint, Status: 410, Detail: "HTTP status 410"}, 0},
		"RedirectIsFinal": {307, "", "", delivery.Result{Outcome: delivery.Retryable, Reason: delivery.ReasonRedirect, Fault: delivery.FaultEndpoint, Status: 307, Detail: "HTTP status 307"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls++
				w.Header().Set("Location", "/elsewhere")
				if c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				w.WriteHeader(c.code)
				_, _ = io.WriteString(w, c.body)
			}))
			defer srv.Close()
			r := pusher(t, 10*time.Second, nil).Post(t.Context(), target(t, srv.URL+query), message(tenant.Suspend))
			r.Duration = 0
			if d := cmp.Diff(c.want, r); d != "" {
				t.Error(d)
			}
			if calls != 1 {
				t.Errorf("%d requests", calls)
			}
		})
	}
}

// A receiver that echoes what it got shows none of it to people.
func TestExcerptIsRedacted(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "http://"+r.Host+r.URL.String()+" "+string(b)+" "+r.Header.Get("webhook-signature"))
	}))
	defer srv.Close()
	r := pusher(t, 10*time.Second, nil).Post(t.Context(), target(t, srv.URL+"/"+query), message(tenant.Suspend))
	clean(t, r)
	if r.Excerpt == "" || len(r.Excerpt) > 200 {
		t.Errorf("excerpt %q", r.Excerpt)
	}
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	peers := make(chan string, 3)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peers <- r.RemoteAddr
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
	}))
	defer srv.Close()
	p := pusher(t, 10*time.Second, nil)
	for range 3 {
		p.Post(t.Context(), target(t, srv.URL), message(tenant.Suspend))
	}
	if a, b, c := <-peers, <-peers, <-peers; a != b || b != c {
		t.Errorf("connections from %s, %s, %s", a, b, c)
	}
}
