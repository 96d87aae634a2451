package architecture_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestImportsFollowTheTable(t *testing.T) {
	t.Parallel()
	sources := load(t, repository(t))
	if len(sources) < 10 {
		t.Fatalf("only %d Go files found: the walk is broken", len(sources))
	}
	report(t, checkImports(layout(), sources))
}

// checkImports finds the arrows of production code that the table forbids.
func checkImports(table map[string]rule, sources []source) []string {
	var findings []string
	for _, s := range sources {
		inside := strings.HasPrefix(s.dir, internal)
		if s.test || (!inside && !imported(s.dir, "cmd")) {
			continue
		}
		key, r, ok := ruleOf(table, s.dir)
		if !ok {
			findings = append(findings, fmt.Sprintf("%s: package %s has no row in internal/architecture/layout_test.go: "+
				"add one that says what it may import", s.path, s.dir))
			continue
		}
		for p := range s.imports() {
			if reason := forbidden(table, key, r, p); reason != "" {
				findings = append(findings, fmt.Sprintf("%s imports %s: %s", s.path, p, reason))
			}
		}
	}
	return findings
}

// forbidden says why a package under rule r, found at key, may not import p;
// empty when it may.
func forbidden(table map[string]rule, key string, r rule, p string) string {
	if !r.support && slices.ContainsFunc(testOnly(), func(lib string) bool { return imported(p, lib) }) {
		return "test code stays out of the binary"
	}
	if r.pure && slices.Contains(impure(), p) {
		return "decisions are pure: hand the values in"
	}
	for _, lib := range restricted() {
		if imported(p, lib) && !slices.Contains(r.libraries, lib) {
			return "not one of the packages that may know this library"
		}
	}
	dir, ours := strings.CutPrefix(p, module+"/")
	if !ours {
		return ""
	}
	target, tr, ok := ruleOf(table, dir)
	switch {
	case !ok:
		return "it has no row in the table"
	case target == key:
		return ""
	case tr.support && !r.support:
		return "test code stays out of the binary"
	case !slices.Contains(r.project, strings.TrimPrefix(target, internal)):
		return fmt.Sprintf("the table lets %s import %v only", key, r.project)
	default:
		return ""
	}
}

// The table itself keeps what it is for: no cycles, and use cases apart.
func TestTableHasNoCycle(t *testing.T) {
	t.Parallel()
	table := layout()
	const visiting, done = 1, 2
	state := map[string]int{}
	var visit func(key string, trail []string)
	visit = func(key string, trail []string) {
		trail = append(trail, key)
		if state[key] == visiting {
			t.Fatalf("cycle: %s", strings.Join(trail, " -> "))
		}
		if state[key] == done {
			return
		}
		state[key] = visiting
		for _, name := range table[key].project {
			if _, ok := table[internal+name]; !ok {
				t.Errorf("%s may import %s, which has no row", key, name)
			}
			visit(internal+name, trail)
		}
		state[key] = done
	}
	for key := range table {
		visit(key, nil)
	}
}

func TestTableKeepsUseCasesApart(t *testing.T) {
	t.Parallel()
	table := layout()
	useCases := []string{"intake", "fanout", "drain", "push", "probe", "mailer"}
	for _, name := range useCases {
		for _, other := range useCases {
			if slices.Contains(table[internal+name].project, other) {
				t.Errorf("the table lets use case %s import %s", name, other)
			}
		}
	}
	for key, r := range table {
		if slices.Contains(r.project, "config") && !slices.Contains([]string{"cmd", "internal/service", "internal/dev"}, key) {
			t.Errorf("the table lets %s import config", key)
		}
	}
}

func TestCheckImportsFinds(t *testing.T) {
	t.Parallel()
	const ours = `import _ "github.com/lamplighter/lamplighter/internal/`
	for name, tc := range map[string]struct {
		path, text string
		want       []string
	}{
		"AllowedArrow":          {"internal/delivery/a.go", ours + `partner"`, nil},
		"ArrowUpwards":          {"internal/tenant/a.go", ours + `mailbox"`, []string{"imports " + module + "/internal/mailbox"}},
		"UseCaseToUseCase":      {"internal/drain/a.go", ours + `push"`, []string{"internal/drain import"}},
		"UseCaseBelow":          {"internal/drain/sub/a.go", ours + `push"`, []string{"internal/drain import"}},
		"OwnSubpackage":         {"internal/drain/a.go", ours + `drain/sub"`, nil},
		"ConfigElsewhere":       {"internal/push/a.go", ours + `config"`, []string{"config"}},
		"ConfigInService":       {"internal/service/a.go", ours + `config"`, nil},
		"DevInService":          {"internal/service/a.go", ours + `dev"`, []string{"internal/service import"}},
		"UnknownPackage":        {"internal/util/a.go", "", []string{"has no row"}},
		"UnknownTarget":         {"internal/drain/a.go", ours + `util"`, []string{"no row"}},
		"RedisInUseCase":        {"internal/drain/a.go", `import _ "github.com/redis/go-redis/v9"`, []string{"may know this library"}},
		"RedisInMailbox":        {"internal/mailbox/a.go", `import _ "github.com/redis/go-redis/v9"`, nil},
		"AsynqInMailbox":        {"internal/mailbox/a.go", `import _ "github.com/hibiken/asynq"`, []string{"may know this library"}},
		"MiniredisInService":    {"internal/service/a.go", `import _ "github.com/alicebob/miniredis/v2"`, []string{"may know this library"}},
		"MiniredisInDev":        {"internal/dev/a.go", `import _ "github.com/alicebob/miniredis/v2"`, nil},
		"NetworkInPure":         {"internal/tenant/a.go", `import _ "net"`, []string{"pure"}},
		"AddressesInPure":       {"internal/partner/a.go", `import _ "net/netip"`, nil},
		"TestingInProduction":   {"internal/push/a.go", `import _ "testing"`, []string{"out of the binary"}},
		"HTTPTestInProduction":  {"internal/push/a.go", `import _ "net/http/httptest"`, []string{"out of the binary"}},
		"TestingInRedistest":    {"internal/redistest/a.go", `import _ "testing"`, nil},
		"TestingInSuite":        {"internal/mailbox/mailboxtest/a.go", `import _ "testing"; ` + ours + `mailbox"; ` + ours + `redistest"`, nil},
		"SuiteInProduction":     {"internal/drain/a.go", ours + `mailbox/mailboxtest"`, []string{"out of the binary"}},
		"RedistestInProduction": {"internal/service/a.go", ours + `redistest"`, []string{"out of the binary"}},
		"TestsAreFree":          {"internal/tenant/a_test.go", ours + `mailbox"`, nil},
		"CommandToUseCase":      {"cmd/lamplighter/a.go", ours + `drain"`, []string{"lets cmd import"}},
		"CommandToService":      {"cmd/lamplighter/a.go", ours + `service"`, nil},
		"KongBelowCommand":      {"internal/service/a.go", `import _ "github.com/alecthomas/kong"`, []string{"may know this library"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tree(map[string]string{tc.path: "package a\n" + tc.text})
			wantFindings(t, checkImports(layout(), load(t, root)), tc.want...)
		})
	}
}
