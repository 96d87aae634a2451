package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lamplighter/lamplighter/internal/httpapi/httpapitest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"lamplighter": main})
}

// TestScripts runs testdata/script: each file is a session at the shell with its golden output.
// Run with -update to take over changed output.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// the race detector has a process linger for a second when it ends, which each command would pay
			env.Setenv("GORACE", "atexit_sleep_ms=20")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve-answer":   serveAnswer(t.Context()),
			"serve-stranger": serveStranger,
			"exits":          exits,
			"wait-for":       waitFor,
			"dev-at":         devAt,
			"revoke-listed":  revokeListed,
			"readme-shell":   readmeShell,
		},
	})
}

// serveAnswer starts a stand-in for the API: serve-answer STATUS FILE [HEADER VALUE]. It answers every
// request with FILE, writes what it was sent to request.txt, and is announced in $ADDRESS and
// $LAMPLIGHTER_SERVER. What the API's document does not foresee it answers with 418 and the reason.
func serveAnswer(ctx context.Context) func(*testscript.TestScript, bool, []string) {
	read := sync.OnceValues(func() (*httpapitest.Contract, error) { return httpapitest.Whole(context.WithoutCancel(ctx)) })
	return func(ts *testscript.TestScript, neg bool, args []string) {
		contract, err := read()
		ts.Check(err)
		next := stranger(ts, neg, args)
		serve(ts, func(w http.ResponseWriter, r *http.Request) {
			var faults []error
			rec := httptest.NewRecorder()
			contract.StandIn(next, func(err error) { faults = append(faults, err) }).ServeHTTP(rec, r)
			if len(faults) > 0 {
				http.Error(w, errors.Join(faults...).Error(), http.StatusTeapot)
				return
			}
			maps.Copy(w.Header(), rec.Header())
			w.WriteHeader(rec.Code)
			_, _ = rec.Body.WriteTo(w)
		})
	}
}

// serveStranger is serve-answer for what answers in the API's place, or beside it.
func serveStranger(ts *testscript.TestScript, neg bool, args []string) {
	serve(ts, stranger(ts, neg, args))
}

func serve(ts *testscript.TestScript, h http.HandlerFunc) {
	server := httptest.NewServer(h)
	ts.Defer(server.Close)
	ts.Setenv("LAMPLIGHTER_SERVER", server.URL)
	ts.Setenv("ADDRESS", server.Listener.Addr().String())
}

// stranger answers as told, and records what it was asked.
func stranger(ts *testscript.TestScript, neg bool, args []string) http.HandlerFunc {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: serve-answer or serve-stranger STATUS FILE [HEADER VALUE]")
	}
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	answer, record := ts.ReadFile(args[1]), ts.MkAbs("request.txt")
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s\n", r.Method, r.URL.Path)
		for _, name := range []string{"Authorization", "Content-Type", "Idempotency-Key"} {
			if v := r.Header.Get(name); v != "" {
				fmt.Fprintf(&b, "%s: %s\n", name, v)
			}
		}
		fmt.Fprintf(&b, "%s\n", body)
		_ = os.WriteFile(record, []byte(b.String()), 0o600)
		switch {
		case filepath.Ext(args[1]) != ".json":
		case status >= http.StatusBadRequest:
			w.Header().Set("Content-Type", "application/problem+json")
		default:
			w.Header().Set("Content-Type", "application/json")
		}
		if len(args) == 4 {
			w.Header().Set(args[2], args[3])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}
}

// exits runs a command line that must end with a code: exits CODE ARG…; stdout and stderr are
// the command's.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	script := `"$@"; code=$?; test $code -eq "$0" || { echo "exit code $code, not $0" >&2; exit 1; }`
	ts.Check(ts.Exec("sh", append([]string{"-c", script}, args...)...))
}

// waitFor polls a file that a background command writes: wait-for FILE REGEXP.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: wait-for FILE REGEXP")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && re.Match(text) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			ts.Fatalf("%s never showed %s; it holds:\n%s", args[0], args[1], text)
		}
	}
}

// devAt makes the client's commands go to the lamplighter dev that wrote FILE: dev-at FILE. It sets
// the client's variables, and HOOK and DESK to the addresses of the receiver and the demo server.
func devAt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dev-at FILE")
	}
	banner := ts.ReadFile(args[0])
	for name, pattern := range map[string]string{
		"LAMPLIGHTER_SERVER": `API +(http\S+)`,
		"LAMPLIGHTER_TOKEN":  `Admin token +(lmp_\S+)`,
		"HOOK":               `Receiver +(http\S+)/<client id>`,
		"DESK":               `Demo server +(http\S+)`,
	} {
		m := regexp.MustCompile(pattern).FindStringSubmatch(banner)
		if m == nil {
			ts.Fatalf("%s does not say %s:\n%s", args[0], name, banner)
		}
		ts.Setenv(name, m[1])
	}
}

// revokeListed ends the first token of a listing: revoke-listed FILE.
func revokeListed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: revoke-listed FILE")
	}
	ts.Check(ts.Exec("lamplighter", "token", "revoke", regexp.MustCompile(`tok_[0-9a-f]+`).FindString(ts.ReadFile(args[0]))))
}

// readmeShell runs the commands that README shows under "The same without curl", where dev-at said.
// Each must succeed.
func readmeShell(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: readme-shell")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	ts.Check(err)
	_, section, _ := strings.Cut(string(text), "### The same without curl")
	section, _, _ = strings.Cut(section, "\n## ")
	commands := regexp.MustCompile(`(?m)^    bin/(lamplighter .*)$`).FindAllStringSubmatch(section, -1)
	if len(commands) == 0 {
		ts.Fatalf("README.md shows no commands there")
	}
	for _, m := range commands {
		ts.Check(ts.Exec("sh", "-c", strings.ReplaceAll(m[1], "http://127.0.0.1:8081/hook", ts.Getenv("HOOK"))))
	}
}
