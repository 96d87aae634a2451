package interop_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const (
	root = "../.."
	// patience is how long a test waits for a process to say something.
	patience = 30 * time.Second
)

// supervise runs a command and ends it when its own standard input ends: so no receiver outlives
// the test that started it, even one that panics. It kills without warning, as a crash would.
const supervise = `"$@" & exec >/dev/null; read -r _; kill -9 $! 2>/dev/null; wait $!`

// line is what receivers print, the union of all of them.
type line struct {
	Event             string `json:"event"`
	Port              int    `json:"port"`
	Status            int    `json:"status"`
	Part              string `json:"part"`
	Why               string `json:"why"`
	Action            string `json:"action"`
	WebhookID         string `json:"webhook_id"`
	Tenant            string `json:"tenant"`
	ChangeType        int    `json:"change_type"`
	VersionName       string `json:"version_name"`
	FileVersion       string `json:"file_version"`
	PublicEndpoint    string `json:"public_endpoint"`
	Sequence          int64  `json:"sequence"`
	Superseded        int64  `json:"superseded"`
	Algorithm         string `json:"alg"`
	KeyID             string `json:"kid"`
	ThumbprintMatches bool   `json:"thumbprint_matches"`
	Lifetime          int64  `json:"lifetime"`
	// PublicKeys are those of a mirroring service's app.
	PublicKeys []string `json:"public_keys"`
}

// receiver is a partner's process.
type receiver struct {
	url string
	// listening is what it said when it was ready.
	listening line

	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer // read it only after the process ended
	lines  chan line
	early  []line // read while another was waited for
	closed bool
}

// start runs a receiver and waits until it listens.
func start(t *testing.T, command []string, env ...string) *receiver {
	t.Helper()
	r := &receiver{lines: make(chan line, 4096)}
	r.cmd = exec.Command("sh", append([]string{"-c", supervise, "receiver"}, command...)...)
	r.cmd.Env = append(append(os.Environ(), "PORT=0", "CLIENT_ID="+clientID, "ISSUER="+issuer, "WEBHOOK_SECRET="+exampleSecret), env...)
	r.cmd.Stderr = &r.stderr
	stdin, err := r.cmd.StdinPipe()
	if err != nil {
		t.Fatalf("prepare receiver: %v", err)
	}
	r.stdin = stdin
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("prepare receiver: %v", err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("start receiver: %v", err)
	}
	t.Cleanup(r.stop)
	go r.read(stdout)
	r.listening = r.await(t, "listening", "")
	r.url = fmt.Sprintf("http://127.0.0.1:%d/hook", r.listening.Port)
	return r
}

func (r *receiver) read(stdout io.Reader) {
	defer close(r.lines)
	scanner := bufio.NewScanner(stdout)
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			l = line{Event: "no JSON", Why: scanner.Text()}
		}
		r.lines <- l
	}
}

// stop kills the process and waits for its end.
func (r *receiver) stop() {
	if r.closed {
		return
	}
	r.closed = true
	_ = r.stdin.Close()
	for l := range r.lines {
		r.early = append(r.early, l)
	}
	_ = r.cmd.Wait() // it was killed
}

// await returns the first line of an event, and of a webhook id if one is given; lines of others
// stay for later calls.
func (r *receiver) await(t *testing.T, event, webhookID string) line {
	t.Helper()
	wanted := func(l line) bool { return l.Event == event && (webhookID == "" || l.WebhookID == webhookID) }
	for i, l := range r.early {
		if wanted(l) {
			r.early = append(r.early[:i:i], r.early[i+1:]...)
			return l
		}
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case l, open := <-r.lines:
			switch {
			case !open:
				r.stop()
				t.Fatalf("the receiver ended before it reported %q; it said: %s", event, r.stderr.String())
			case wanted(l):
				return l
			}
			r.early = append(r.early, l)
		case <-deadline.C:
			t.Fatalf("no %q of %q within %s; the receiver reported %+v", event, webhookID, patience, r.early)
		}
	}
}

// tool finds a command that `make deps` installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: run 'make deps' (%v)", name, err)
	}
	return path
}

// nodeModules is where the npm packages are; npm writes its own lock file last.
func nodeModules(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("node_modules")
	if err != nil {
		t.Fatalf("find the npm packages: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".package-lock.json")); err != nil {
		t.Fatalf("the npm packages are missing: run 'make deps' (%v)", err)
	}
	return dir
}

// python finds an interpreter that has the packages. Debian puts them beside its own, which need
// not be the first on the PATH.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import cryptography, jwt").Run() == nil {
			return name
		}
	}
	t.Fatal("no python3 with the packages jwt and cryptography: run 'make deps'")
	return ""
}

// build runs a compiler.
func build(t *testing.T, command ...string) {
	t.Helper()
	cmd := exec.Command(tool(t, command[0]), command[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
}
