package interop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// sample is a receiver that the documentation shows.
type sample struct {
	name string
	algs []partner.TokenAlgorithm
	// prepare builds it where needed and returns the command that runs it.
	prepare func(t *testing.T) []string
}

func samples() []sample {
	both := partner.AllTokenAlgorithms()
	return []sample{
		{"JavaScript", both, func(t *testing.T) []string {
			t.Helper()
			// Node looks for packages beside the file, so the file goes beside the packages.
			dir := t.TempDir()
			text, err := os.ReadFile(root + "/docs/receivers/javascript/receiver.mjs")
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "receiver.mjs"), text, 0o600)
			}
			if err == nil {
				err = os.Symlink(nodeModules(t), filepath.Join(dir, "node_modules"))
			}
			if err != nil {
				t.Fatalf("prepare receiver: %v", err)
			}
			return []string{tool(t, "node"), filepath.Join(dir, "receiver.mjs")}
		}},
		{"Python", both, func(t *testing.T) []string {
			t.Helper()
			return []string{python(t), "-B", root + "/docs/receivers/python/receiver.py"}
		}},
		{"Go", both, func(t *testing.T) []string {
			t.Helper()
			out := filepath.Join(t.TempDir(), "receiver")
			build(t, "go", "build", "-o", out, root+"/docs/receivers/go")
			return []string{out}
		}},
		// Mono has no elliptic curves, so ES256 is compiled and not run.
		{"CSharp", []partner.TokenAlgorithm{partner.RS256}, func(t *testing.T) []string {
			t.Helper()
			out := filepath.Join(t.TempDir(), "Receiver.exe")
			build(t, "mcs", "-nologo", "-warnaserror", "-nowarn:649", "-r:System.Runtime.Serialization", "-out:"+out, root+"/docs/receivers/csharp/Receiver.cs")
			return []string{tool(t, "mono"), out}
		}},
	}
}

// Each sample verifies, refuses, keeps order and survives a crash, as the guide says it does.
func TestSamples(t *testing.T) {
	t.Parallel()
	keys := newKeyring(t)
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			command := s.prepare(t)
			t.Run("Verifies", func(t *testing.T) { t.Parallel(); verifies(t, newPlatform(t, keys), s, command) })
			t.Run("KeepsOrderOverACrash", func(t *testing.T) { t.Parallel(); keepsOrder(t, newPlatform(t, keys), command) })
			t.Run("DoesWhatACrashLeftUndone", func(t *testing.T) { t.Parallel(); doesTheUndone(t, newPlatform(t, keys), command) })
			t.Run("WantsAnIssuer", func(t *testing.T) { t.Parallel(); wantsAnIssuer(t, newPlatform(t, keys), command) })
			t.Run("AsksForAnotherTryWithoutKeys", func(t *testing.T) { t.Parallel(); asksForAnotherTry(t, newPlatform(t, keys), command) })
		})
	}
}

func newInbox(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "inbox.json")
}

func startSample(t *testing.T, p *platform, command []string, inbox string) *receiver {
	t.Helper()
	return start(t, command, "DISCOVERY_URL="+p.discoveryURL(), "INBOX_FILE="+inbox)
}

// actions is what the samples do about each change type.
func actions() map[tenant.ChangeType]string {
	return map[tenant.ChangeType]string{
		tenant.Upgrade: "pause", tenant.BackupRestored: "resynchronize", tenant.Suspend: "pause",
		tenant.Resume: "resume", tenant.Delete: "forget", tenant.Move: "use sod3.superoffice.com",
	}
}

// verifies takes one process through what it must refuse, what it must handle, and new keys.
func verifies(t *testing.T, p *platform, s sample, command []string) {
	t.Helper()
	inbox := newInbox(t)
	r := startSample(t, p, command, inbox)
	checkRefusals(t, p, r, s.algs)
	if _, err := os.Stat(inbox); !os.IsNotExist(err) {
		t.Errorf("something refused reached the inbox (stat: %v)", err)
	}
	sequence := firstSequence
	for _, alg := range s.algs {
		for _, ct := range tenant.AllChangeTypes() {
			sequence++
			m := change(ct, sequence)
			wantDelivered(t, p.post(t, r.url, attempt{message: m, alg: alg}))
			got := r.await(t, "handled", m.WebhookID)
			if got.Action != actions()[ct] || got.Tenant != string(customer) || got.Sequence != sequence {
				t.Errorf("%s %s: handled as %+v, want action %q, sequence %d", alg, ct, got, actions()[ct], sequence)
			}
		}
	}
	checkRotation(t, p, r, "handled", s.algs[0])
}

// keepsOrder: what could not be stored is not taken for known when it comes again; smaller sequences are dropped, an equal one under a new id is not, a repeated id is;
// and a new process knows what the killed one knew.
func keepsOrder(t *testing.T, p *platform, command []string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "later")
	inbox := filepath.Join(dir, "inbox.json")
	r := startSample(t, p, command, inbox)
	if got := p.post(t, r.url, attempt{message: change(tenant.Suspend, 10)}); got.Status != http.StatusInternalServerError {
		t.Fatalf("answer of a receiver that cannot store: status %d (%s), want 500", got.Status, got.Detail)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatalf("make the inbox's directory: %v", err)
	}
	retold := change(tenant.Suspend, 10)
	retold.WebhookID += "_again"
	other := change(tenant.Suspend, 3)
	other.Change.Tenant, other.WebhookID = "Cust54321", "chg_Cust54321_3"

	send := func(ct tenant.ChangeType, sequence int64, event, why string) {
		t.Helper()
		m := change(ct, sequence)
		wantDelivered(t, p.post(t, r.url, attempt{message: m}))
		if got := r.await(t, event, m.WebhookID); got.Why != why {
			t.Errorf("sequence %d: %s as %q, want %q", sequence, event, got.Why, why)
		}
	}
	send(tenant.Suspend, 10, "accepted", "new")
	r.await(t, "handled", tenant.FormatChangeID(customer, 10))
	send(tenant.Suspend, 10, "ignored", "duplicate")
	wantDelivered(t, p.post(t, r.url, attempt{message: retold}))
	r.await(t, "handled", retold.WebhookID)
	wantDelivered(t, p.post(t, r.url, attempt{message: other}))
	r.await(t, "handled", other.WebhookID)

	r.stop()
	r = startSample(t, p, command, inbox)
	send(tenant.Resume, 9, "ignored", "older")
	send(tenant.Suspend, 10, "ignored", "duplicate")
	wantDelivered(t, p.post(t, r.url, attempt{message: retold}))
	r.await(t, "ignored", retold.WebhookID)
	send(tenant.Resume, 11, "accepted", "new")
	r.await(t, "handled", tenant.FormatChangeID(customer, 11))
	send(tenant.Suspend, 10, "ignored", "older")
}

// doesTheUndone starts a receiver on the inbox of one that died between its answer and its work.
func doesTheUndone(t *testing.T, p *platform, command []string) {
	t.Helper()
	inbox := newInbox(t)
	id := tenant.FormatChangeID(customer, 7)
	text := fmt.Sprintf(`{"tenants":{%q:{"sequence":7,"ids":[%q]}},"work":[{"webhook_id":%q,"tenant":%q,"change_type":3,"sequence":7}]}`,
		customer, id, id, customer)
	if err := os.WriteFile(inbox, []byte(text), 0o600); err != nil {
		t.Fatalf("write inbox: %v", err)
	}
	r := startSample(t, p, command, inbox)
	if got := r.await(t, "handled", id); got.Action != "resume" {
		t.Errorf("handled as %+v, want action resume", got)
	}
	wantDelivered(t, p.post(t, r.url, attempt{message: change(tenant.Resume, 7)}))
	if got := r.await(t, "ignored", id); got.Why != "duplicate" {
		t.Errorf("ignored as %q, want duplicate", got.Why)
	}
	var left struct {
		Work []json.RawMessage `json:"work"`
	}
	text2, err := os.ReadFile(inbox)
	if err == nil {
		err = json.Unmarshal(text2, &left)
	}
	if err != nil || len(left.Work) != 0 {
		t.Errorf("%d left to do (read inbox: %v), want none", len(left.Work), err)
	}
}

// wantsAnIssuer: some libraries check no issuer at all when they are given an empty one.
func wantsAnIssuer(t *testing.T, p *platform, command []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "DISCOVERY_URL="+p.discoveryURL(), "CLIENT_ID="+clientID, "WEBHOOK_SECRET="+exampleSecret,
		"ISSUER=", "PORT=0", "INBOX_FILE="+newInbox(t))
	if err := cmd.Run(); err == nil || ctx.Err() != nil {
		t.Errorf("started without an issuer: ended with %v, %v", err, ctx.Err())
	}
}

// asksForAnotherTry: keys that cannot be fetched are no reason to call a notification forged.
func asksForAnotherTry(t *testing.T, p *platform, command []string) {
	t.Helper()
	r := start(t, command, "DISCOVERY_URL="+p.server.URL+"/away", "INBOX_FILE="+newInbox(t))
	got := p.post(t, r.url, attempt{message: change(tenant.Suspend, 1)})
	if got.Status != http.StatusServiceUnavailable || !got.Wait || got.RetryAfter != 30*time.Second {
		t.Errorf("answer: status %d, retry after %s (%s), want 503 after 30s", got.Status, got.RetryAfter, got.Excerpt)
	}
	if said := r.await(t, "refused", ""); said.Part != "keys" {
		t.Errorf("refused for its %s (%s), want keys", said.Part, said.Why)
	}
}
