package e2e_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The defaults are a small form for every run; -apply.apps=2000 -apply.approvals=100000 is the large one.
var (
	applyApps      = flag.Int("apply.apps", 50, "how many apps TestAKilledApplyEndsAsAnUnbrokenOne applies")
	applyApprovals = flag.Int("apply.approvals", 2000, "how many approvals it applies, at least one an app")
)

// TestAKilledApplyEndsAsAnUnbrokenOne applies the same files to two deployments: to one at once, to
// the other with two SIGKILLs on the way. Both must end with the same apps and approvals.
func TestAKilledApplyEndsAsAnUnbrokenOne(t *testing.T) {
	t.Parallel()
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(hook.Close)
	apps, each := *applyApps, *applyApprovals / *applyApps
	file := filepath.Join(t.TempDir(), "apps.yaml")
	if err := os.WriteFile(file, manifest(apps, each, hook.URL), 0o600); err != nil {
		t.Fatal(err)
	}

	whole := newStack(t, "everysec")
	wholeServe := whole.serve("api,worker")
	began := time.Now()
	run := whole.apply(file)
	run.wait(15 * time.Minute)
	if run.code() != 0 {
		t.Fatalf("apply: exit code %d: %s", run.code(), tail(run.stderr.Bytes(), 1000))
	}
	took := time.Since(began)
	if want := fmt.Sprintf("%s created", counted(apps, "app")); !strings.Contains(run.stdout.String(), want) {
		t.Errorf("apply said %q, not that %s", run.stdout.String(), want)
	}
	progress := regexp.MustCompile(`(?m)^Applying: .* of .* steps?, .* of .* approvals?, .*s$`).FindAllString(run.stderr.String(), -1)
	if took > 20*time.Second && len(progress) == 0 {
		t.Errorf("it took %s and showed no progress: %q", took, run.stderr.String())
	}
	t.Logf("unbroken: %s apps, %s approvals in %s; peak memory of apply %.0f MiB, of serve %.0f MiB; %d lines of progress; %s",
		counted(apps, ""), counted(apps*each, ""), took.Round(10*time.Millisecond), run.peak, peakOf(wholeServe.cmd.Process.Pid), len(progress), run.stdout.String())
	for _, line := range progress[:min(2, len(progress))] {
		t.Log(line)
	}
	want := whole.export()
	wholeServe.kill()

	broken := newStack(t, "everysec")
	serve := broken.serve("api,worker")
	for _, share := range []int{3, 2} { // killed at a third of the apps, and again at half of them
		run := broken.apply(file, "--concurrency=1") // slowly, so that it is still at work when it is killed
		run.killAt(apps / share)
	}
	if n := len(broken.export()); n == 0 || n >= len(want) {
		t.Fatalf("%d apps were there after the kills, not a part of %d", n, len(want))
	}
	began = time.Now()
	run = broken.apply(file)
	run.wait(15 * time.Minute)
	if run.code() != 0 {
		t.Fatalf("apply after the kills: exit code %d: %s", run.code(), tail(run.stderr.Bytes(), 1000))
	}
	t.Logf("after two kills: %s; peak memory of apply %.0f MiB, of serve %.0f MiB; %s",
		time.Since(began).Round(10*time.Millisecond), run.peak, peakOf(serve.cmd.Process.Pid), run.stdout.String())
	if diff := cmp.Diff(want, broken.export()); diff != "" {
		t.Errorf("the killed run left something else than the unbroken one (-unbroken +killed):\n%s", tail([]byte(diff), 3000))
	}
	if kept := secretsIn(t, run.secrets); len(kept) != apps {
		t.Errorf("the secrets file holds the secrets of %d apps, not of %d", len(kept), apps)
	}
	again := broken.apply(file, "--dry-run")
	again.wait(5 * time.Minute)
	if again.code() != 0 {
		t.Errorf("a dry run afterwards: exit code %d, something is left to do: %s", again.code(), tail(again.stdout.Bytes(), 1000))
	}
}

func counted(n int, what string) string {
	text := strconv.Itoa(n)
	if n >= 1000 {
		text = fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	if what != "" {
		text += " " + what + "s"
	}
	return text
}

// manifest says apps with their approvals of tenants that many share.
func manifest(apps, each int, hook string) []byte {
	tenants := max(each, apps/4)
	var b bytes.Buffer
	for i := range apps {
		fmt.Fprintf(&b, "client_id: app%d\nname: App %d\ntechnical_contact: {name: Kim, email: kim%d@example.com}\n", i, i, i)
		fmt.Fprintf(&b, "endpoints: {state_change: {url: %q, enabled: true}}\napprovals:\n", hook)
		for j := range each {
			fmt.Fprintf(&b, "  - Cust%d\n", 10000+(i*7+j)%tenants)
		}
		b.WriteString("---\n")
	}
	return b.Bytes()
}

// applying is one run of `lamplighter apply`.
type applying struct {
	t              testing.TB
	cmd            *exec.Cmd
	secrets        string
	stdout, stderr bytes.Buffer
	ended          chan struct{}
	// peak is the most memory that it held, in MiB.
	peak float64
}

// apply starts a run that nobody is asked anything in.
func (s *stack) apply(file string, more ...string) *applying {
	s.t.Helper()
	r := &applying{t: s.t, secrets: filepath.Join(s.dir, "secrets.txt"), ended: make(chan struct{})}
	r.cmd = exec.Command(s.bin, append([]string{"apply", "-f", file, "--secrets-file", r.secrets}, more...)...)
	r.cmd.Env = append(os.Environ(), "LAMPLIGHTER_SERVER=http://"+s.api, "LAMPLIGHTER_TOKEN="+adminToken)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.ended)
	}()
	return r
}

func (r *applying) code() int { return r.cmd.ProcessState.ExitCode() }

// wait lets the run come to its end and watches its memory.
func (r *applying) wait(within time.Duration) {
	r.t.Helper()
	r.watch(within, func() bool { return false })
}

// watch looks at the run until it ended or done says that it was seen enough of.
func (r *applying) watch(within time.Duration, done func() bool) {
	r.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-r.ended:
			return
		case <-tick.C:
			r.peak = max(r.peak, peakOf(r.cmd.Process.Pid))
			if done() {
				return
			}
		case <-deadline.C:
			_ = r.cmd.Process.Kill()
			<-r.ended
			r.t.Fatalf("apply did not end within %s: %s", within, tail(r.stderr.Bytes(), 500))
		}
	}
}

// killAt kills the run once it has the secrets of so many apps.
func (r *applying) killAt(apps int) {
	r.t.Helper()
	r.watch(10*time.Minute, func() bool { return len(secretsIn(r.t, r.secrets)) >= apps })
	_ = r.cmd.Process.Kill()
	<-r.ended
	if status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		r.t.Fatalf("apply ended before it was killed, with exit code %d: %s", r.code(), tail(r.stderr.Bytes(), 500))
	}
}

// secretsIn are the apps whose secret a file holds. A line that is half written does not count.
func secretsIn(t testing.TB, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	kept := map[string]string{}
	for line := range bytes.Lines(text) {
		var l struct {
			App    string `json:"client_id"`
			Secret string `json:"webhook_secret"`
		}
		if json.Unmarshal(line, &l) == nil && l.Secret != "" {
			kept[l.App] = l.Secret
		}
	}
	return kept
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakOf is the most memory that a process held so far, in MiB; 0 once it is gone.
func peakOf(pid int) float64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	m := peakLine.FindSubmatch(text)
	if err != nil || m == nil {
		return 0
	}
	kib, _ := strconv.Atoi(string(m[1]))
	return float64(kib) / 1024
}

// exported is what must be the same in two deployments.
type exported struct {
	App       map[string]any
	Approvals []string
}

// export reads all apps with their approvals. What is of one run alone is left out: revisions,
// times and health.
func (s *stack) export() map[string]exported {
	s.t.Helper()
	out := map[string]exported{}
	s.pages("/v1/apps", func(item map[string]any) {
		for _, name := range []string{"revision", "created_at", "updated_at"} {
			delete(item, name)
		}
		endpoints, _ := item["endpoints"].(map[string]any)
		for _, e := range endpoints {
			if m, ok := e.(map[string]any); ok {
				delete(m, "health")
				delete(m, "switched_at")
			}
		}
		id, _ := item["client_id"].(string)
		out[id] = exported{App: item}
	})
	for id, app := range out {
		s.pages("/v1/apps/"+id+"/approvals", func(item map[string]any) {
			name, _ := item["tenant"].(string)
			app.Approvals = append(app.Approvals, name)
		})
		out[id] = app
	}
	return out
}

// pages reads a list to its end.
func (s *stack) pages(path string, each func(item map[string]any)) {
	s.t.Helper()
	for cursor := ""; ; {
		var page struct {
			Items []map[string]any `json:"items"`
			Next  string           `json:"next_cursor"`
		}
		q := url.Values{"limit": {"200"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		s.want(http.StatusOK, &page, http.MethodGet, path+"?"+q.Encode(), "")
		for _, item := range page.Items {
			each(item)
		}
		if cursor = page.Next; cursor == "" {
			return
		}
	}
}
