package architecture_test

import (
	"fmt"
	"go/ast"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A file that needs more lines than this has more than one duty.
const (
	maxCodeLines = 500
	maxTestLines = 800
)

var (
	openEnd = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
	// httpName are the parts of net/http that are words of the protocol, not I/O.
	httpName = regexp.MustCompile(`^(Status[A-Z].*|Method[A-Z].*|Header|ParseTime|CanonicalHeaderKey)$`)
)

func TestConduct(t *testing.T) {
	t.Parallel()
	report(t, checkConduct(layout(), load(t, repository(t))))
}

func TestScripts(t *testing.T) {
	t.Parallel()
	root := repository(t)
	report(t, checkScripts(root, files(t, root)))
}

// checkConduct finds what code of the module must not do, whatever it imports.
func checkConduct(table map[string]rule, sources []source) []string {
	var findings []string
	for _, s := range sources {
		if !strings.HasPrefix(s.dir, internal) && !imported(s.dir, "cmd") && !imported(s.dir, "test") {
			continue
		}
		_, r, _ := ruleOf(table, s.dir)
		c := conduct{
			source: s, pure: r.pure && !s.test, dials: r.dials,
			test:    s.test || r.support || imported(s.dir, "test"),
			command: imported(s.dir, "cmd"),
			names:   s.imports(),
		}
		findings = append(findings, c.check()...)
	}
	return findings
}

type conduct struct {
	source
	test, command, pure, dials bool

	names    map[string]string
	findings []string
}

func (c *conduct) add(pos ast.Node, text string) {
	c.findings = append(c.findings, c.at(pos.Pos())+": "+text)
}

func (c *conduct) check() []string {
	limit := maxCodeLines
	if c.test {
		limit = maxTestLines
	}
	if c.lines > limit {
		c.findings = append(c.findings, fmt.Sprintf("%s: %d lines, more than %d: split it by duty", c.path, c.lines, limit))
	}
	for _, group := range c.file.Comments {
		if openEnd.MatchString(group.Text()) {
			c.add(group, "an open end in a comment: finish it or open an issue")
		}
	}
	ast.Inspect(c.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				c.add(n, "func init: build it where it is needed and hand it in")
			}
		case *ast.SelectorExpr:
			c.selector(n)
		case *ast.CompositeLit:
			if made, ok := n.Type.(*ast.SelectorExpr); ok && c.calls(made, "net/http", "Client") && !c.dials && !c.test {
				c.add(n, "http.Client of its own making: "+throughGuard)
			}
		}
		return true
	})
	return c.findings
}

// selector judges the use of another package's function, or of a test's method.
func (c *conduct) selector(n *ast.SelectorExpr) {
	x, ok := n.X.(*ast.Ident)
	if !ok {
		return
	}
	if c.test && slices.Contains([]string{"t", "b", "f", "tb"}, x.Name) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, n.Sel.Name) {
		c.add(n, "a test that cannot run fails, it never skips")
		return
	}
	switch {
	case c.calls(n, "context", "Background", "TODO") && !c.test && !c.command:
		c.add(n, "context."+n.Sel.Name+": take the context from the caller")
	case c.dialler(n) && !c.dials && !c.test && !c.pure:
		c.add(n, x.Name+"."+n.Sel.Name+": "+throughGuard)
	case c.calls(n, "os", "ReadFile") && !c.test:
		c.add(n, "os.ReadFile: internal/smallfile reads what settings and arguments name, and not without end")
	case c.calls(n, "time", "Sleep") && !c.test:
		c.add(n, "time.Sleep: wait on a timer and the context")
	case c.calls(n, "time", "Sleep") && c.names["testing/synctest"] != "synctest":
		c.add(n, "time.Sleep outside a synctest bubble: wait for the condition")
	case c.calls(n, "time", "Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Sleep") && c.pure:
		c.add(n, "time."+n.Sel.Name+" in a pure package: take the time as an argument")
	case c.pure && x.Name == c.names["net/http"] && !httpName.MatchString(n.Sel.Name):
		c.add(n, "http."+n.Sel.Name+" in a pure package: only its names for statuses, methods and headers")
	}
}

// throughGuard is why few packages may dial.
const throughGuard = "what the service is told to call goes through internal/guard, which refuses addresses that must not be called"

// dialler reports whether n makes connections, or what makes them, past the guard.
func (c *conduct) dialler(n *ast.SelectorExpr) bool {
	return c.calls(n, "net", "Dial", "DialTimeout", "DialTCP", "DialUDP", "DialIP", "DialUnix", "Dialer") ||
		c.calls(n, "crypto/tls", "Dial", "DialWithDialer", "Dialer") || c.calls(n, "net/smtp", "Dial", "SendMail") ||
		c.calls(n, "syscall", "Connect") ||
		c.calls(n, "net/http", "Transport", "DefaultTransport", "DefaultClient", "Get", "Head", "Post", "PostForm")
}

// calls reports whether n is one of the functions of the imported package p.
func (c *conduct) calls(n *ast.SelectorExpr, p string, functions ...string) bool {
	x, ok := n.X.(*ast.Ident)
	return ok && c.names[p] == x.Name && x.Name != "" && slices.Contains(functions, n.Sel.Name)
}

// checkScripts finds Lua outside the two packages that own it, and scripts
// whose header does not say what a caller must know.
func checkScripts(root fs.FS, names []string) []string {
	var findings []string
	for _, name := range names {
		if path.Ext(name) != ".lua" {
			continue
		}
		if !strings.HasPrefix(name, "internal/mailbox/") && !strings.HasPrefix(name, "internal/registry/") {
			findings = append(findings, name+": scripts live in internal/mailbox and internal/registry alone")
			continue
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			findings = append(findings, fmt.Sprintf("read %s: %v", name, err))
			continue
		}
		for _, word := range headerWords(names, name, string(text)) {
			if !strings.Contains(strings.ToLower(luaHeader(string(text))), word) {
				findings = append(findings, fmt.Sprintf("%s: its header does not say %q", name, word))
			}
		}
	}
	return findings
}

// headerWords lists what a script's header must speak of. Where a prelude is
// prepended to every script of a directory, it explains the keys for all.
func headerWords(names []string, name, text string) []string {
	prelude := path.Join(path.Dir(name), "prelude.lua")
	if name == prelude {
		return []string{"keys"}
	}
	words := []string{"return", "atomic"}
	if !slices.Contains(names, prelude) {
		words = append(words, "keys")
	}
	if strings.Contains(text, "ARGV[") {
		words = append(words, "argv")
	}
	return words
}

// luaHeader returns the comment lines a script starts with.
func luaHeader(text string) string {
	var header []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "--") && strings.TrimSpace(line) != "" {
			break
		}
		header = append(header, line)
	}
	return strings.Join(header, "")
}

func TestCheckConductFinds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		path, text string
		want       []string
	}{
		"Init":              {"internal/push/a.go", "func init() {}", []string{"func init"}},
		"MethodNamedInit":   {"internal/push/a.go", "type x int\nfunc (x) init() {}", nil},
		"Background":        {"internal/push/a.go", "import \"context\"\nvar c = context.Background()", []string{"a.go:3: context.Background"}},
		"BackgroundAliased": {"internal/push/a.go", "import ctx \"context\"\nvar c = ctx.TODO()", []string{"context.TODO"}},
		"BackgroundOfOther": {"internal/push/a.go", "var context struct{ Background int }\nvar c = context.Background", nil},
		"BackgroundInCmd":   {"cmd/lamplighter/a.go", "import \"context\"\nvar c = context.Background()", nil},
		"BackgroundInTest":  {"internal/push/a_test.go", "import \"context\"\nvar c = context.Background()", nil},
		"BackgroundInSuite": {"internal/mailbox/mailboxtest/a.go", "import \"context\"\nvar c = context.Background()", nil},
		"ClockInPure":       {"internal/delivery/a.go", "import \"time\"\nvar c = time.Now()", []string{"pure package"}},
		"ClockInPureTest":   {"internal/delivery/a_test.go", "import \"time\"\nvar c = time.Now()", nil},
		"ClockInAdapter":    {"internal/push/a.go", "import \"time\"\nvar c = time.Now()", nil},
		"StatusInPure":      {"internal/delivery/a.go", "import \"net/http\"\nvar c = http.StatusGone", nil},
		"RequestInPure":     {"internal/delivery/a.go", "import \"net/http\"\nvar c = http.Get", []string{"http.Get in a pure"}},
		"Sleep":             {"internal/push/a.go", "import \"time\"\nfunc f() { time.Sleep(1) }", []string{"timer and the context"}},
		"SleepInTest":       {"internal/push/a_test.go", "import \"time\"\nfunc f() { time.Sleep(1) }", []string{"synctest bubble"}},
		"SleepInBubble":     {"internal/push/a_test.go", "import (\"time\"; _ \"testing/synctest\")\nfunc f() { time.Sleep(1) }", []string{"synctest bubble"}},
		"SleepInNamed":      {"internal/push/a_test.go", "import (\"time\"; \"testing/synctest\")\nfunc f() { synctest.Wait(); time.Sleep(1) }", nil},
		"ReadFile":          {"internal/push/a.go", "import \"os\"\nfunc f() { os.ReadFile(\"a\") }", []string{"smallfile"}},
		"Skip":              {"internal/push/a_test.go", "import \"testing\"\nfunc TestX(t *testing.T) { t.Skip() }", []string{"never skips"}},
		"Dial":              {"internal/push/a.go", "import \"net\"\nvar d = net.Dial", []string{"through internal/guard"}},
		"Dialer":            {"internal/probe/a.go", "import n \"net\"\nvar d n.Dialer", []string{"n.Dialer"}},
		"DialTLS":           {"internal/httpapi/a.go", "import \"crypto/tls\"\nvar d = tls.Dial", []string{"tls.Dial"}},
		"Transport":         {"internal/probe/a.go", "import \"net/http\"\nvar d = &http.Transport{}", []string{"http.Transport"}},
		"Client":            {"internal/probe/a.go", "import \"net/http\"\nvar d = http.Client{}", []string{"http.Client of its own"}},
		"ClientGiven":       {"internal/probe/a.go", "import \"net/http\"\nvar d *http.Client", nil},
		"Get":               {"internal/service/a.go", "import \"net/http\"\nvar d = http.Get", []string{"http.Get"}},
		"DialInGuard":       {"internal/guard/a.go", "import \"net\"\nvar d net.Dialer", nil},
		"DialInMailer":      {"internal/mailer/a.go", "import \"net\"\nvar d net.Dialer", nil},
		"DialInTest":        {"internal/push/a_test.go", "import \"net\"\nvar d = net.Dial", nil},
		"OpenEnd":           {"internal/push/a.go", "// TO" + "DO: later\nvar x int", []string{"open end"}},
		"LongFile":          {"internal/push/a.go", strings.Repeat("\n", 500), []string{"501 lines"}},
		"LongTest":          {"internal/push/a_test.go", strings.Repeat("\n", 500), nil},
		"EndToEndTest":      {"test/e2e/a_test.go", "import \"testing\"\nfunc TestX(t *testing.T) { t.SkipNow() }", []string{"never skips"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tree(map[string]string{tc.path: "package a\n" + tc.text})
			wantFindings(t, checkConduct(layout(), load(t, root)), tc.want...)
		})
	}
}

func TestCheckScriptsFinds(t *testing.T) {
	t.Parallel()
	root := tree(map[string]string{
		"internal/mailbox/good.lua":        "-- Good.\n--\n-- KEYS[1] a\n-- ARGV[1] b\n-- Returns 1.\n-- All of it is atomic.\nreturn 1\n",
		"internal/registry/silent.lua":     "-- KEYS[1] a, returns 1, atomic.\nlocal x = ARGV[1]\n-- ARGV[1] is told too late here.\n",
		"internal/drain/alien.lua":         "return 1\n",
		"internal/mailbox/lua/prelude.lua": "-- KEYS of all: 1 a.\n",
		"internal/mailbox/lua/beat.lua":    "-- Returns 1. Atomic: all.\nreturn 1\n",
		"internal/mailbox/lua/dark.lua":    "-- Returns 1.\nreturn 1\n",
	})
	names := files(t, root)
	if len(names) != 6 {
		t.Fatalf("files = %v", names)
	}
	wantFindings(t, checkScripts(root, names),
		"internal/drain/alien.lua: scripts live", `internal/mailbox/lua/dark.lua: its header does not say "atomic"`,
		`internal/registry/silent.lua: its header does not say "argv"`)
}
