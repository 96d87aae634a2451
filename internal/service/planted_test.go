package service_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/service"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// channels are the texts that people other than a secret's owner see, by where.
type channels map[string]string

// leaks lists "secret in channel" for each secret that stands in a text, in the clear or as
// base64, hex or percent-encoded.
func leaks(seen channels, planted map[string]string) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(planted)) {
		s := planted[name]
		for _, where := range slices.Sorted(maps.Keys(seen)) {
			for _, form := range []string{s, url.QueryEscape(s), hex.EncodeToString([]byte(s)), strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(s)), "=")} {
				if strings.Contains(seen[where], form) {
					found = append(found, name+" in "+where)
					break
				}
			}
		}
	}
	return found
}

// TestLeaksAreFound is the proof that TestPlantedSecrets can fail.
func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	planted := map[string]string{"password": "p4$$ word/+", "other": "never-shown"}
	for _, text := range []string{"x p4$$ word/+ y", "q=p4%24%24+word%2F%2B", "7034242420776f72642f2b", "cDQkJCB3b3JkLys="} {
		if got := leaks(channels{"log": "before " + text + " after"}, planted); !slices.Equal(got, []string{"password in log"}) {
			t.Errorf("in %q: found %v", text, got)
		}
	}
	if got := leaks(channels{"log": "nothing"}, planted); len(got) != 0 {
		t.Errorf("found %v in nothing", got)
	}
}

// lockedBuffer takes the log of a whole service.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// plantedSettings are settings full of secrets, and what `config print` says of them.
func plantedSettings(t *testing.T, planted map[string]string) (cfg config.Config, printed string) {
	t.Helper()
	generate := func(name string) string {
		text, err := secret.GenerateKey(strings.NewReader(strings.Repeat(name+"-0123456789", 9)))
		if err != nil {
			t.Fatal(err)
		}
		planted[name] = text.Reveal()
		return text.Reveal()
	}
	planted["bootstrap token"], planted["SMTP password"] = "lmp_planted_bootstrap_0123456789", "planted-smtp-5ecret"
	planted["Redis password"], planted["Redis URL's password"], planted["Sentinel password"] = "planted-redis-5ecret", "planted-url-5ecret", "planted-sentinel-5ecret"
	l, err := config.Load(config.Sources{Defaults: config.DevDefaults(), Flags: map[string]string{"listen": "127.0.0.1:0", "ops-listen": "127.0.0.1:0", "log-level": "debug"}, Environ: []string{
		"LAMPLIGHTER_BOOTSTRAP_TOKEN=" + planted["bootstrap token"], "LAMPLIGHTER_SMTP_HOST=" + "127.0.0.1", "LAMPLIGHTER_SMTP_PORT=" + "9", "LAMPLIGHTER_SMTP_USERNAME=" + "kim",
		"LAMPLIGHTER_SMTP_PASSWORD=" + planted["SMTP password"], "LAMPLIGHTER_SMTP_FROM=" + "lamplighter@example.com", "LAMPLIGHTER_SMTP_TLS=" + "mandatory",
		"LAMPLIGHTER_REDIS_URL=" + "redis+sentinel://kim:" + planted["Redis URL's password"] + "@127.0.0.1:9/main/0", "LAMPLIGHTER_REDIS_PASSWORD=" + planted["Redis password"],
		"LAMPLIGHTER_REDIS_SENTINEL_PASSWORD=" + planted["Sentinel password"],
		"LAMPLIGHTER_ENCRYPTION_KEY=" + generate("encryption key"), "LAMPLIGHTER_ENCRYPTION_OLDER_KEYS=" + generate("older encryption key"),
		"LAMPLIGHTER_PUBLIC_URL=" + "http://127.0.0.1",
	}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := l.Print(&out); err != nil {
		t.Fatal(err)
	}
	return l.Config, out.String()
}

// plantedKey is a signing key and a part of its private half.
func plantedKey(t *testing.T) (set *signing.KeySet, inner string) {
	t.Helper()
	text, err := signing.GenerateKey(signing.RS256, "test", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	key, err := signing.ParseKey("test", text)
	if err != nil {
		t.Fatal(err)
	}
	if set, err = signing.NewKeySet(key); err != nil {
		t.Fatal(err)
	}
	_, private, _ := strings.Cut(string(text), "PRIVATE KEY-----\n")
	private, _, _ = strings.Cut(private, "-----END")
	lines := strings.Split(private, "\n")
	return set, lines[len(lines)-6] // behind the public modulus, which everybody may know
}

// TestPlantedSecrets plants a secret of every kind, makes the service do, refuse and fail what it
// can, and looks for them wherever others than their owners look.
func TestPlantedSecrets(t *testing.T) {
	t.Parallel()
	planted, seen := map[string]string{}, channels{}
	cfg, printed := plantedSettings(t, planted)
	seen["config print"] = printed
	set, inner := plantedKey(t)
	planted["signing key"] = inner
	log := &lockedBuffer{}
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))

	planted["receiver's cookie"], planted["receiver's password"], planted["receiver's bearer"] = "c00kie-planted-9d", "passw0rd-planted-7f", "b3arer-planted-3c"
	planted["URL's key"] = "urlkey-planted-1a"
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "session="+planted["receiver's cookie"])
		w.WriteHeader(http.StatusGone)
		_, _ = fmt.Fprintf(w, "trace: Cookie: session=%s\nAuthorization: Bearer %s\npassword=%s\nGET http://x/?key=%s", planted["receiver's cookie"],
			planted["receiver's bearer"], planted["receiver's password"], planted["URL's key"])
	}))
	t.Cleanup(receiver.Close)

	unreachable, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := service.New(unreachable, service.Options{Config: cfg, Version: "test", Log: logger, Keys: set, Loopback: true})
	if err == nil {
		t.Fatal("there is a Redis at port 9")
	}
	seen["error of the start"] = fmt.Sprintf("%v %+v %#v", err, err, errors.Unwrap(err))

	rdb := redistest.Mini(t)
	s := serveLogged(t, service.Options{Config: cfg, Version: "test", Log: logger, Redis: rdb, Keys: set, Loopback: true, Unsafe: true})
	p := &prober{T: t, base: "http://" + s.Addr("api"), planted: planted, seen: seen}
	p.work(receiver.URL + "/hook?key=" + planted["URL's key"])
	p.mails(cfg, func() []incident.Mail { return lettersIn(t, rdb) })

	seen["metrics"] = p.get("http://"+s.Addr("ops")+"/metrics", "")
	seen["readiness"] = p.get("http://"+s.Addr("ops")+"/readyz", "")
	for _, path := range []string{"/v1/audit?limit=500", "/v1/audit/export", "/v1/audit?of=changes", "/v1/openapi.json", "/docs", "/v1/apps", "/v1/tokens", "/v1/apps/app1/deliveries", "/v1/incidents", "/v1/apps/app1/tenants/a/why", "/v1/config", "/login/.well-known/jwks"} {
		seen[path] = p.get(p.base+path, planted["bootstrap token"])
	}
	seen["log"] = log.String()
	// A URL's query is the app's own setting, and shown where settings are.
	for _, where := range []string{"/v1/apps", "/v1/audit?limit=500", "/v1/audit/export"} {
		seen[where] = strings.ReplaceAll(seen[where], planted["URL's key"], "")
	}
	for where, text := range seen {
		if len(text) < 10 {
			t.Errorf("%s is all but empty: %q", where, text)
		}
	}
	if !strings.Contains(seen["log"], "operation=rotateSecret") || !strings.Contains(seen["/v1/apps/app1/deliveries"], "excerpt") {
		t.Errorf("what was looked through has not what it should")
	}
	if found := leaks(seen, planted); len(found) > 0 {
		t.Errorf("found: %s", strings.Join(found, ", "))
	}
	t.Logf("%d secrets looked for in %d places, %d found", len(planted), len(seen), len(leaks(seen, planted)))
}

// serveLogged runs a service until the test ends.
func serveLogged(t *testing.T, o service.Options) *service.Service {
	t.Helper()
	s, err := service.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("service: %v", err)
		}
	})
	return s
}

// prober uses a service, and keeps what it answers.
type prober struct {
	*testing.T

	base    string
	planted map[string]string
	seen    channels
}

// ask returns an answer; what fails goes to what others see.
func (p *prober) ask(bearer, method, path, body string) (int, string) {
	p.Helper()
	req, err := http.NewRequestWithContext(p.Context(), method, p.base+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPost {
		req.Header.Set("Idempotency-Key", fmt.Sprint(len(body), path))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		p.seen[fmt.Sprintf("problem of %s %.20s, %d", method, path, len(p.seen))] = string(b) + fmt.Sprint(resp.Header)
	}
	return resp.StatusCode, string(b)
}

func (p *prober) get(address, bearer string) string {
	p.Helper()
	req, err := http.NewRequestWithContext(p.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		p.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	return string(b)
}

// member returns a member of an answer that holds a secret.
func (p *prober) member(answer, name string) string {
	p.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(answer), &m); err != nil {
		p.Fatalf("%v: %s", err, answer)
	}
	s, _ := m[name].(string)
	if s == "" {
		p.Fatalf("no %s in %s", name, answer)
	}
	return s
}

// work writes, reads, refuses and fails with every secret where a caller could put it.
func (p *prober) work(hook string) {
	admin := p.planted["bootstrap token"]
	_, made := p.ask(admin, "PUT", "/v1/apps/app1", `{"name":"App","technical_contact":{"name":"Kim","email":"kim@example.com"},"endpoints":{"state_change":{"url":"`+hook+`","enabled":true}}}`)
	p.planted["first webhook secret"] = p.member(made, "webhook_secret")
	_, rotated := p.ask(admin, "POST", "/v1/apps/app1/secrets", "")
	p.planted["webhook secret"] = p.member(rotated, "webhook_secret")
	_, token := p.ask(admin, "POST", "/v1/tokens", `{"name":"Portal","role":"partner:app1"}`)
	partners := p.member(token, "token")
	p.planted["partner's token"] = partners
	p.ask(admin, "PUT", "/v1/apps/app1/approvals/a", "")
	p.ask(admin, "POST", "/v1/state-changes", `{"tenant":"a","change_type":"suspend"}`)
	redistest.Eventually(p, 20*time.Second, "the receiver answered", func() bool {
		_, text := p.ask(admin, "GET", "/v1/apps/app1/deliveries", "")
		return strings.Contains(text, `"gone"`)
	})
	p.ask(partners, "POST", "/v1/apps/app1/endpoints/state_change/test", "")
	p.ask(admin, "POST", "/v1/secrets/reencrypt", "")
	for _, name := range slices.Sorted(maps.Keys(p.planted)) {
		s := p.planted[name]
		quoted, err := json.Marshal(s)
		if err != nil {
			p.Fatal(err)
		}
		p.ask(s+"x", "GET", "/v1/apps", "")
		p.ask(admin, "GET", "/v1/apps/"+url.PathEscape("~"+s), "") // no id: one that could be is logged as such
		p.ask(admin, "GET", "/v1/apps?cursor="+url.QueryEscape(s), "")
		p.ask(admin, "PUT", "/v1/apps/app2", `{"name":`+string(quoted)+`,"token_algorithm":`+string(quoted)+`}`)
		p.ask(admin, "POST", "/v1/state-changes", `{"tenant":"~`+string(quoted[1:])+`,"change_type":`+string(quoted)+`}`)
		p.ask(admin, "POST", "/v1/state-changes", string(quoted)+"{")
		p.ask(admin, "PUT", "/v1/apps/app1/endpoints/erp_sync", `{"url":"https://kim:`+url.QueryEscape(s)+`@partner.example/"}`)
	}
}

// mails reads the letters that wait, composes them as they would be sent, and follows their links.
func (p *prober) mails(cfg config.Config, letters func() []incident.Mail) {
	p.Helper()
	key, err := secret.ParseKey(cfg.Encryption.Key.Reveal())
	if err != nil {
		p.Fatal(err)
	}
	links := mailer.NewLinks(p.base, secret.NewKeyring(key))
	composer, err := mailer.NewComposer("lamplighter@example.com", links.LinkMaker())
	if err != nil {
		p.Fatal(err)
	}
	var found []incident.Mail
	redistest.Eventually(p, 20*time.Second, "a letter is written", func() bool { found = letters(); return len(found) > 0 })
	for i, l := range found {
		m, err := composer.Compose(&l)
		if err != nil {
			p.Fatal(err)
		}
		p.seen[fmt.Sprint("mail ", i)] = m.Subject + "\n" + m.Text + "\n" + m.HTML + "\n" + m.ID
	}
	unsubscribe, confirm := links.UnsubscribeLink("kim@example.com", []partner.ClientID{"app1"}), links.ConfirmLink(&found[0])
	for name, link := range map[string]string{"unsubscribe link": unsubscribe, "confirm link": confirm} {
		token := link[strings.LastIndexByte(link, '/')+1:]
		p.get(link, "")
		p.get(link+"x", "")
		_, _ = p.ask("", "POST", strings.TrimPrefix(link, p.base), "List-Unsubscribe=One-Click")
		p.planted[name] = token
	}
	// A mail goes to the recipient alone, who owns these links.
	for where, text := range p.seen {
		if strings.HasPrefix(where, "mail ") {
			for _, link := range []string{unsubscribe, confirm} {
				text = strings.ReplaceAll(text, link, "")
			}
			p.seen[where] = text
		}
	}
}

// lettersIn finds the letters in the outboxes and trays of a Redis.
func lettersIn(t *testing.T, rdb redis.UniversalClient) (out []incident.Mail) {
	t.Helper()
	for _, pattern := range []string{"*:outbox", "*:tray"} {
		names, err := rdb.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			for _, text := range rdb.HGetAll(t.Context(), name).Val() {
				if i := strings.Index(text, `{"v":`); i >= 0 {
					if l, err := incident.DecodeMail(text[i:]); err == nil {
						out = append(out, l)
					}
				}
			}
		}
	}
	return out
}
