package apply_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/apply"
	"github.com/lamplighter/lamplighter/internal/client"
)

// fake is an admin API in memory. It is killed, from the caller's view, after budget writes: the
// last one is carried out and its answer is lost.
type fake struct {
	mu        sync.Mutex
	apps      map[string]map[string]any
	approvals map[string]map[string]bool
	revision  int
	secrets   int
	budget    int
	writes    int
	cancel    context.CancelFunc
}

func newFake() *fake {
	return &fake{apps: map[string]map[string]any{}, approvals: map[string]map[string]bool{}, budget: -1}
}

var errKilled = errors.New("killed")

// spend counts a write; the answer of the last one within the budget is lost, later ones do not arrive.
func (f *fake) spend() (arrives, answered bool) {
	f.writes++
	if f.budget < 0 {
		return true, true
	}
	f.budget--
	if f.budget <= 0 {
		f.cancel()
	}
	return f.budget >= 0, f.budget > 0
}

func refused(status int) error { return &client.Refusal{Status: status, Attempt: 1} }

func (f *fake) Do(_ context.Context, r client.Request) (client.Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	parts := strings.Split(strings.TrimPrefix(r.Path, "/v1/apps/"), "/")
	id := parts[0]
	app, exists := f.apps[id]
	if r.Method == http.MethodGet {
		if !exists {
			return client.Answer{}, refused(http.StatusNotFound)
		}
		text, err := json.Marshal(app)
		return client.Answer{Body: text}, err
	}
	arrives, answered := f.spend()
	if !arrives {
		return client.Answer{}, &client.NoAnswer{Err: errKilled}
	}
	answer, err := f.write(r, id, parts[1:], exists)
	if !answered {
		return client.Answer{}, &client.NoAnswer{Err: errKilled}
	}
	return answer, err
}

func (f *fake) write(r client.Request, id string, rest []string, exists bool) (client.Answer, error) {
	switch {
	case len(rest) == 1 && rest[0] == "secrets":
		return f.secret()
	case len(rest) == 2:
		delete(f.approvals[id], rest[1])
		return client.Answer{}, nil
	case r.Method == http.MethodDelete:
		delete(f.apps, id)
		delete(f.approvals, id)
		return client.Answer{}, nil
	case r.Method == http.MethodPut && exists, r.IfMatch != "" && r.IfMatch != fmt.Sprintf("%q", f.apps[id]["revision"]):
		return client.Answer{}, refused(http.StatusPreconditionFailed)
	}
	if !exists {
		f.apps[id] = map[string]any{"client_id": id, "name": "", "endpoints": map[string]any{"state_change": map[string]any{"urls": map[string]any{}, "url": "", "enabled": false}}}
		f.approvals[id] = map[string]bool{}
	}
	var patch map[string]any
	if err := json.Unmarshal(r.Body, &patch); err != nil {
		return client.Answer{}, err
	}
	if patch["name"] == "refuse me" {
		delete(f.apps, id)
		return client.Answer{}, refused(http.StatusUnprocessableEntity)
	}
	merge(f.apps[id], patch)
	f.revision++
	f.apps[id]["revision"] = strconv.Itoa(f.revision)
	if !exists {
		return f.secret()
	}
	return client.Answer{}, nil
}

func (f *fake) secret() (client.Answer, error) {
	f.secrets++
	return client.Answer{Body: fmt.Appendf(nil, `{"webhook_secret":"whsec_%d"}`, f.secrets)}, nil
}

func merge(old, patch map[string]any) {
	for name, v := range patch {
		inner, ok := v.(map[string]any)
		have, ok2 := old[name].(map[string]any)
		switch {
		case ok && ok2:
			merge(have, inner)
		case v == nil:
			delete(old, name)
		default:
			old[name] = v
		}
	}
}

func (f *fake) ForEachItem(_ context.Context, path string, _ url.Values, _ int, each func(json.RawMessage) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var items []any
	if id, ok := strings.CutSuffix(strings.TrimPrefix(path, "/v1/apps/"), "/approvals"); ok {
		for _, t := range slices.Sorted(maps.Keys(f.approvals[id])) {
			items = append(items, map[string]any{"tenant": t})
		}
	} else {
		for _, id := range slices.Sorted(maps.Keys(f.apps)) {
			items = append(items, f.apps[id])
		}
	}
	for _, item := range items {
		text, err := json.Marshal(item)
		if err != nil {
			return err
		}
		if err := each(text); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) SendLines(_ context.Context, r client.Request, lines iter.Seq[[]byte], answered func(client.LineAnswer) error) error {
	id := strings.Split(r.Path, "/")[3]
	n := 0
	for line := range lines {
		n++
		var doc struct{ Tenant string }
		if err := json.Unmarshal(line, &doc); err != nil {
			return err
		}
		f.mu.Lock()
		arrives, answer := f.spend()
		if arrives {
			f.approvals[id][doc.Tenant] = true
		}
		f.mu.Unlock()
		if !arrives || !answer {
			return &client.NoAnswer{Err: errKilled}
		}
		if err := answered(client.LineAnswer{Line: n, Status: http.StatusNoContent}); err != nil {
			return err
		}
	}
	return nil
}

func read(t testing.TB, text string) *apply.Manifest {
	t.Helper()
	m := &apply.Manifest{}
	if err := errors.Join(m.AddFile("m.yaml", strings.NewReader(text)), m.Err()); err != nil {
		t.Fatal(err)
	}
	return m
}

const platform = `
client_id: a
name: A
endpoints: {state_change: {url: "https://a.example/", urls: {sod: "https://s.example/"}, enabled: true}}
approvals: [T1, T2, T3, T4]
---
client_id: b
name: B
approvals: [T1, T2]
---
client_id: c
name: C
`

// run applies with a book and returns the error of the run.
func run(t *testing.T, f *fake, m *apply.Manifest, book string, prune bool) (apply.Summary, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.cancel = cancel
	secrets, err := apply.OpenSecretsFile(book)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := secrets.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := &apply.Runner{API: f, Concurrency: 3, Secrets: secrets}
	plan, err := r.BuildPlan(t.Context(), m, prune)
	if err != nil {
		t.Fatal(err)
	}
	return r.Summary(), r.Run(ctx, plan)
}

// TestKilledAnywhere kills a run after each of its writes, whose answer is lost, and runs it again:
// the same apps and approvals, and a secret for each app that the service knows as its newest.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	whole := newFake()
	if _, err := run(t, whole, read(t, platform), filepath.Join(t.TempDir(), "secrets"), false); err != nil {
		t.Fatal(err)
	}
	if whole.writes != 9 {
		t.Fatalf("a whole run writes %d times", whole.writes)
	}
	for budget := 1; budget <= whole.writes; budget++ {
		f, book := newFake(), filepath.Join(t.TempDir(), "secrets")
		f.budget = budget
		_, err := run(t, f, read(t, platform), book, false)
		if err == nil {
			t.Errorf("killed after %d writes: no error", budget)
		}
		f.budget = -1
		if _, err := run(t, f, read(t, platform), book, false); err != nil {
			t.Errorf("killed after %d writes and run again: %v", budget, err)
		}
		for _, app := range f.apps {
			delete(app, "revision")
		}
		for _, app := range whole.apps {
			delete(app, "revision")
		}
		if diff := cmp.Diff(whole.apps, f.apps) + cmp.Diff(whole.approvals, f.approvals); diff != "" {
			t.Errorf("killed after %d writes and run again: %s", budget, diff)
		}
		text, err := os.ReadFile(book)
		if err != nil || strings.Count(string(text), "whsec_") != 3 || strings.Count(string(text), "\n") != 3 {
			t.Errorf("killed after %d writes: secrets %s, %v", budget, text, err)
		}
	}
}

func TestRunTwiceDoesNothing(t *testing.T) {
	t.Parallel()
	f, book := newFake(), filepath.Join(t.TempDir(), "secrets")
	for range 2 {
		if _, err := run(t, f, read(t, platform), book, true); err != nil {
			t.Fatal(err)
		}
	}
	if f.writes != 9 {
		t.Errorf("%d writes", f.writes)
	}
	if _, err := run(t, f, read(t, "client_id: a\nendpoints: {state_change: {urls: {}}}\napprovals: [T1]"), book, true); err != nil {
		t.Fatal(err)
	}
	if len(f.apps) != 1 || len(f.approvals["a"]) != 1 {
		t.Errorf("after pruning: %v, %v", f.apps, f.approvals)
	}
	endpoint := f.apps["a"]["endpoints"].(map[string]any)["state_change"].(map[string]any)
	if len(endpoint["urls"].(map[string]any)) != 0 || endpoint["url"] != "https://a.example/" {
		t.Errorf("urls is not what was said: %v", endpoint)
	}
}

func TestRefusalsDoNotStopTheRest(t *testing.T) {
	t.Parallel()
	f := newFake()
	_, err := run(t, f, read(t, "client_id: a\nname: refuse me\n---\nclient_id: b\nname: B"), filepath.Join(t.TempDir(), "secrets"), false)
	if faults, ok := errors.AsType[apply.Faults](err); !ok || len(faults) != 1 || faults[0].What != "app a" || f.apps["b"] == nil {
		t.Errorf("%v, apps %v", err, f.apps)
	}
}

func TestOvertakenWritesLookAgain(t *testing.T) {
	t.Parallel()
	f := newFake()
	book := filepath.Join(t.TempDir(), "secrets")
	if _, err := run(t, f, read(t, platform), book, false); err != nil {
		t.Fatal(err)
	}
	r := &apply.Runner{API: f}
	plan, err := r.BuildPlan(t.Context(), read(t, "client_id: a\nname: New"), false)
	if err != nil {
		t.Fatal(err)
	}
	f.apps["a"]["revision"], f.apps["a"]["probe_tenant"] = "99", "T9" // somebody else writes
	if err := r.Run(t.Context(), plan); err != nil || f.apps["a"]["name"] != "New" || f.apps["a"]["probe_tenant"] != "T9" {
		t.Errorf("%v, app %v", err, f.apps["a"])
	}
}

func TestReadBounds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"Bomb":     {"client_id: a\nerror_emails: &a [x, x]\npublic_keys: &b [*a, *a]\n", "must be text"},
		"Deep":     {"client_id: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), "must be text"},
		"NotYAML":  {"\x00", "is not YAML"},
		"Tabs":     {"client_id: a\n\tname: b", "is not YAML"},
		"Number":   {"client_id: a\nbudget_factor: lots\n", "must be a whole number"},
		"Fraction": {"client_id: a\nbudget_factor: 1.5\n", "must be a whole number"},
		"Binary":   {"client_id: !!binary aGVsbG8=", "must be text"},
		"Long":     {strings.Repeat("#", apply.MaxFile+1), "is longer than 128 MiB"},
		"MergeKey": {"client_id: a\n<<: {name: b}", "is not a known member"},
	} {
		m := &apply.Manifest{}
		if err := m.AddFile("f", strings.NewReader(tc.text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := m.Err(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(platform)
	f.Add("a: &a {b: *a}\nclient_id: *a")
	f.Add("tenant: 007\nstate: Running\n---\n- x")
	f.Fuzz(func(t *testing.T, text string) {
		m := &apply.Manifest{}
		if err := m.AddFile("f", strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		_ = m.Err()
		for _, a := range m.Apps {
			step := apply.DiffApp(a, apply.CurrentApp{}, true)
			if step == nil || step.Action != apply.Create || !slices.IsSorted(a.Approvals) {
				t.Errorf("%q: %+v", text, step)
			}
		}
	})
}

func TestBookRefusesOthersFiles(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "f")
	for text, want := range map[string]string{
		"hello\nworld\n": "line 1 is not a line of secrets",
		"{\"client_id\":\"a\",\"webhook_secret\":\"whsec_1\"}\n{\"client_id\":\"b\",\"webh": "",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := apply.OpenSecretsFile(name)
		switch {
		case want == "" && err == nil:
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			left, _ := os.ReadFile(name)
			if string(left) != "{\"client_id\":\"a\",\"webhook_secret\":\"whsec_1\"}\n" {
				t.Errorf("after a half-written line: %s", left)
			}
		case err == nil || !strings.Contains(err.Error(), want) || want == "":
			t.Errorf("%q: %v", text, err)
		}
	}
}
