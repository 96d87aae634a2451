package architecture_test

import (
	"path"
	"slices"
	"strings"
)

const (
	module   = "github.com/lamplighter/lamplighter"
	internal = "internal/"
)

// Libraries that only some packages may import, because each stands for one
// adapter. All others are free.
const (
	goRedis   = "github.com/redis/go-redis"
	asynq     = "github.com/hibiken/asynq"
	miniredis = "github.com/alicebob/miniredis"
	goMail    = "github.com/wneessen/go-mail"
	gobreaker = "github.com/sony/gobreaker"
	goJose    = "github.com/go-jose/go-jose"
	ssrf      = "code.dny.dev/ssrf"
	kong      = "github.com/alecthomas/kong"
)

func restricted() []string {
	return []string{goRedis, asynq, miniredis, goMail, gobreaker, goJose, ssrf, kong}
}

// testOnly are the packages that would drag test code into the binary.
func testOnly() []string {
	return []string{
		"testing", "net/http/httptest", "github.com/google/go-cmp", "go.uber.org/goleak",
		"pgregory.net/rapid", "github.com/rogpeppe/go-internal", "github.com/getkin/kin-openapi",
	}
}

// impure are the standard packages that do I/O or bring randomness. Of net/http
// a pure package may use the names of statuses and methods; checkConduct sees to that.
func impure() []string {
	return []string{
		"net", "net/smtp", "os", "os/exec", "os/signal", "io/ioutil", "database/sql",
		"log", "crypto/rand", "math/rand", "math/rand/v2", "syscall",
	}
}

// rule says what a directory's packages may import. It covers the directories
// below it that have no rule of their own.
type rule struct {
	project   []string // packages of the project, as directories below internal/
	libraries []string // out of restricted
	pure      bool     // no I/O, no clock, no randomness
	support   bool     // exists for tests and may be imported by them alone
	dials     bool     // connects to what operators set, or guards what partners set
}

// layout is the table of packages, bottom up. Its keys are directories.
func layout() map[string]rule {
	domain := []string{"tenant", "partner", "told", "delivery", "incident", "health", "commoncause", "circuit"}
	// What a use case may build on. Other use cases are not among it.
	contracts := slices.Concat(domain, []string{"secret", "plainjson", "signing", "guard", "wire", "mailbox", "registry", "queue", "loop", "ratelimit"})
	useCases := []string{"intake", "fanout", "drain", "push", "probe", "alerting", "mailer", "sweep", "auditlog", "feed", "compare", "jobs", "storewatch", "causewatch", "incidents", "endpointtest", "apps"}
	everything := slices.Concat(contracts, useCases, []string{"keys", "redisconn", "httpapi", "config", "smallfile"})

	table := map[string]rule{
		"internal/tenant":    {pure: true},
		"internal/partner":   {pure: true, project: []string{"tenant"}},
		"internal/told":      {pure: true, project: []string{"partner"}},
		"internal/apitypes":  {pure: true, project: []string{"tenant", "partner", "told"}},
		"internal/delivery":  {pure: true, project: []string{"tenant", "partner", "plainjson", "told"}},
		"internal/incident":  {pure: true, project: []string{"tenant", "partner", "delivery"}},
		"internal/circuit":   {pure: true, project: []string{"tenant", "partner", "delivery"}},
		"internal/health":    {pure: true, project: []string{"partner", "delivery", "told"}},
		"internal/soap":      {pure: true},
		"internal/plainjson": {pure: true},
		"internal/ratelimit": {pure: true},
		"internal/smallfile": {},
		"internal/wire":      {},
		"internal/keys":      {pure: true, project: []string{"tenant", "partner"}},
		"internal/secret":    {},
		"internal/signing":   {project: []string{"secret", "plainjson", "smallfile"}, libraries: []string{goJose}},
		"internal/guard":     {libraries: []string{ssrf}, dials: true},
		"internal/redisconn": {project: []string{"secret", "smallfile"}, libraries: []string{goRedis}, dials: true},
		"internal/mailbox":   {project: append([]string{"keys"}, domain...), libraries: []string{goRedis}},
		"internal/registry":  {project: append([]string{"keys", "secret"}, domain...), libraries: []string{goRedis}},
		"internal/loop":      {project: []string{"registry"}},
		"internal/queue":     {project: []string{"tenant", "partner"}, libraries: []string{goRedis, asynq}},

		"internal/commoncause": {pure: true},

		"internal/httpapi":         {project: append(slices.Concat(without(contracts, "queue"), useCases), "httpapi/openapi", "apitypes")},
		"internal/httpapi/openapi": {},
		"internal/config":          {project: []string{"secret"}},
		"internal/service": {
			project:   everything,
			libraries: []string{goRedis, asynq, goMail},
		},
		"internal/dev": {
			project:   append([]string{"service"}, everything...),
			libraries: []string{miniredis, goJose},
			dials:     true,
		},

		"internal/mailer/smtptest": {support: true},
		"internal/wire/wiretest":   {support: true, project: []string{"wire"}},
		"internal/redistest":       {support: true, project: []string{"keys", "redisconn"}, libraries: []string{goRedis, miniredis}},
		"internal/architecture":    {},
		// What only the command line needs. The doctor checks Redis before there is a service.
		"internal/doctor": {project: []string{"keys", "redisconn", "registry"}},
		"internal/client": {dials: true},
		"internal/output": {},
		"internal/apply":  {project: []string{"client", "tenant", "partner", "apitypes"}},
		"cmd": {
			project:   append([]string{"service", "dev", "config", "doctor", "mailer", "auditlog", "secret", "signing", "client", "output", "apply", "smallfile", "apitypes"}, domain...),
			libraries: []string{kong},
			dials:     true,
		},
	}
	for _, name := range useCases {
		table[internal+name] = rule{project: contracts, libraries: adapterOf(name)}
		if name == "mailer" { // the relay is the operator's own choice
			table[internal+name] = rule{project: contracts, libraries: adapterOf(name), dials: true}
		}
		if name == "probe" {
			table[internal+name] = rule{project: append([]string{"soap"}, contracts...)}
		}
	}
	return table
}

// adapterOf lists the restricted library of a use case, if it has one.
func adapterOf(useCase string) []string {
	switch useCase {
	case "mailer":
		return []string{goMail, gobreaker}
	default:
		return nil
	}
}

// ruleOf finds the rule of a directory: its own or that of the nearest one
// above. A conformance suite (mailbox/mailboxtest) needs no row: it may import
// what its parent may, and the parent.
func ruleOf(table map[string]rule, dir string) (key string, r rule, ok bool) {
	if r, ok := table[dir]; ok {
		return dir, r, true
	}
	parent := path.Dir(dir)
	if parent == "." {
		return "", rule{}, false
	}
	if path.Base(dir) == path.Base(parent)+"test" {
		if _, r, ok := ruleOf(table, parent); ok {
			return dir, rule{
				project:   slices.Concat(r.project, []string{strings.TrimPrefix(parent, internal), "redistest"}),
				libraries: append([]string{miniredis}, r.libraries...),
				support:   true,
			}, true
		}
	}
	return ruleOf(table, parent)
}

func without(list []string, unwanted string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == unwanted })
}
