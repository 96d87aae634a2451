package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// TestReload changes the settings' file under a running process: what can change does at SIGHUP, what
// cannot is named, and a file that is not good changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lamplighter.yaml")
	s := newStack(t, "everysec", "LAMPLIGHTER_CONFIG="+file, "LAMPLIGHTER_LOG_LEVEL=", "LAMPLIGHTER_SIGNING_KEYS=")
	var names []string
	for _, name := range []string{"RS256.pem", "ES256.pem", "next.pem"} {
		names = append(names, filepath.Join(s.dir, name))
	}
	write := func(level, inFlight, extra string, keys ...string) {
		t.Helper()
		text := "log: {level: " + level + "}\ndelivery: {in_flight: " + inFlight + "}\nsigning: {keys: [" + strings.Join(keys, ", ") + "]}\n" + extra
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("warn", "256", "", names[:2]...)
	p := s.serve("api,worker")
	reload := func(want string, times int) {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		redistest.Eventually(t, 20*time.Second, "the log says "+want, func() bool { return strings.Count(s.logs(), want) == times })
	}
	published := func(want int) {
		t.Helper()
		if got := len(s.keys().Keys); got != want {
			t.Errorf("%d keys are published, want %d", got, want)
		}
	}
	published(2)

	s.run("keys", "generate", "--out", names[2])
	write("info", "128", "", names...)
	reload(`"msg":"settings reloaded"`, 1) // which the level from before would have hidden
	published(3)
	if log := s.logs(); strings.Count(log, "needs a restart") != 1 || !strings.Contains(log, `"setting":"delivery.in_flight"`) {
		t.Errorf("the log does not name the one setting that needs a restart:\n%s", log)
	}

	for i, c := range []struct{ extra, key, words string }{
		{"deliveri: {}\n", names[2], "deliveri"},
		{"", filepath.Join(s.dir, "missing.pem"), "missing.pem"},
		{"probe: {interval: 1s}\n", names[2], "probe.interval"},
	} {
		write("debug", "256", c.extra, names[0], names[1], c.key)
		reload("settings not reloaded", i+1)
		if !strings.Contains(s.logs(), c.words) {
			t.Errorf("the log does not name %s", c.words)
		}
	}
	published(3)
	if strings.Contains(s.logs(), `"level":"DEBUG"`) {
		t.Error("a refused file changed the level")
	}

	r := newReceiver(t, "app1")
	s.register(r, "RS256", []string{"Cust1"})
	tr := newTruth()
	s.all(tr, "after", []string{"Cust1"}, 2)
	awaitSettled(t, tr, 20*time.Second, r)
	r.healthy()
	write("warn", "256", "", names[1], names[2]) // the old RSA key goes
	reload(`"msg":"settings reloaded"`, 1)       // its line is hidden now
	redistest.Eventually(t, 20*time.Second, "the old key is published no more", func() bool { return len(s.keys().Keys) == 2 })
	if err := p.terminate(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
