package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/lamplighter/lamplighter/internal/redisconn"
)

// CheckStatus is what one check came to.
type CheckStatus string

// The closed set of results.
const (
	// Passed: nothing has to be done.
	Passed CheckStatus = "ok"
	// Doubtful: it works, but the operator should look at it.
	Doubtful CheckStatus = "warning"
	// Failed: serve would not work, or would not be safe.
	Failed CheckStatus = "failed"
	// Skipped: not checked, because an earlier check failed or by the settings.
	Skipped CheckStatus = "skipped"
)

// CheckResult is what one check found.
type CheckResult struct {
	Check  string      `json:"check"`
	Result CheckStatus `json:"result"`
	// Detail says what was found. Advice says what to change, empty when nothing has to be.
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"`
}

// Dependencies are what serve needs besides its settings, as the settings describe it.
type Dependencies struct {
	Redis redisconn.Options
	// Prefix is that of the keys, Waived the safety checks that the settings waive.
	Prefix string
	Waived []redisconn.Check
	Mail   Mail
	Guard  Guard
}

// Mail is the mail server of the settings.
type Mail struct {
	Disabled bool
	// Host is empty when the settings name none.
	Host string
	Port int
	// CheckLogin connects to the server and logs in, without sending a mail.
	CheckLogin func(ctx context.Context) error
}

// Guard is what the settings allow that the guard blocks otherwise.
type Guard struct {
	AllowHTTP  bool
	AllowCIDRs []netip.Prefix
}

// CheckDependencies checks Redis, the mail server and the guard. It ends with ctx. It writes only a lease, which it
// releases.
func CheckDependencies(ctx context.Context, d *Dependencies) []CheckResult {
	out := checkRedis(ctx, d)
	return append(out, checkMail(ctx, d.Mail), checkGuard(d.Guard))
}

func checkMail(ctx context.Context, m Mail) CheckResult {
	e := CheckResult{Check: "smtp", Result: Passed, Detail: fmt.Sprintf("%s answers on port %d and accepts the login", m.Host, m.Port)}
	switch {
	case m.Disabled:
		return CheckResult{Check: "smtp", Result: Skipped, Detail: "smtp.disabled is set: no mails are sent when endpoints fail"}
	case m.Host == "":
		return CheckResult{Check: "smtp", Result: Skipped, Detail: "smtp.host is not set"}
	}
	if err := m.CheckLogin(ctx); err != nil {
		e.Result, e.Detail, e.Advice = Failed, err.Error(), "lamplighter mail test checks it stage by stage. See smtp.host, smtp.port, smtp.tls, smtp.username and smtp.password."
	}
	return e
}

func checkGuard(g Guard) CheckResult {
	e := CheckResult{Check: "guard", Result: Passed, Detail: "only public addresses are called, by https"}
	var open []string
	if g.AllowHTTP {
		open = append(open, "http is allowed")
	}
	if len(g.AllowCIDRs) > 0 {
		open = append(open, fmt.Sprintf("%d networks are allowed that are blocked otherwise", len(g.AllowCIDRs)))
	}
	if len(open) > 0 {
		e.Result, e.Detail = Doubtful, strings.Join(open, "; ")
		e.Advice = "Partners' URLs may lead there: keep guard.allow_cidrs and guard.allow_http for closed networks."
	}
	return e
}
