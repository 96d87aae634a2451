package httpapi

import (
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Budget is what one owner may use of the service. A request beyond it is refused; requests of other owners are not.
type Budget struct {
	// Name is the member budget of the refusal's problem, and a label of lamplighter_budget_refusals_total.
	Name string
	// Owner says to what each budget belongs, Size how much it is, in words.
	Owner, Size string
	// Raised is set for a budget that the app's budget_factor multiplies.
	Raised bool
}

// The closed set of budgets.
const (
	budgetRequests       = "requests"
	budgetAtOnce         = "requests_at_once"
	budgetLong           = "long_requests"
	budgetCaller         = "caller_requests"
	budgetBody           = "body_bytes"
	budgetValues         = "body_values"
	budgetWrongTokens    = "wrong_tokens"
	budgetUnknownTenants = "unknown_tenants"
	budgetStrangers      = "strange_tenants"
	budgetTests          = "endpoint_tests"
	budgetKeys           = "idempotency_keys"
	budgetWaiters        = "waiting_engines"
	budgetAddresses      = "new_addresses"
	budgetNames          = "host_names"
	budgetSettings       = "settings"
	budgetResyncs        = "resyncs"
)

// Limits that are constants and not settings: each protects the service from callers.
const (
	// A partner's portal sends few requests; the platform and the operators' tools send many.
	partnerInterval = 20 * time.Millisecond
	partnerBurst    = 200
	otherInterval   = 500 * time.Microsecond
	otherBurst      = 10_000
	// The requests of one partner's token at once. A few more wait for a short time.
	partnerAtOnce  = 4
	partnerWaiting = 32
	partnerWithin  = time.Second
	// Wrong tokens from an address, and from all addresses of an IPv6 /48, which one site may have.
	failureInterval     = 6 * time.Second
	failureBurst        = 10
	siteFailureInterval = 500 * time.Millisecond
	siteFailureBurst    = 100
	unknownInterval     = time.Second
	unknownBurst        = 60
	// Settings are changed by hand, so rarely.
	settingInterval = time.Second
	settingBurst    = 20
	// The tenants that resyncs name.
	resyncInterval = 6 * time.Millisecond
	resyncBurst    = 1000
)

func allBudgets() []string {
	return []string{
		budgetRequests, budgetAtOnce, budgetLong, budgetCaller, budgetBody, budgetValues, budgetWrongTokens, budgetUnknownTenants, budgetStrangers,
		budgetTests, budgetKeys, budgetWaiters, budgetAddresses, budgetNames, budgetSettings, budgetResyncs,
	}
}

// Budgets lists the budgets, for documents.
func (a *API) Budgets() []Budget {
	return []Budget{
		{budgetRequests, "a partner's token", describeRate(partnerBurst, partnerInterval, 1), true},
		{budgetRequests, "another token", describeRate(otherBurst, otherInterval, 1) + "; a body of lines is one request", false},
		{budgetAtOnce, "a partner's token", fmt.Sprintf("%d at once; %d more wait up to %v", partnerAtOnce, partnerWaiting, partnerWithin), true},
		{budgetLong, "a token", "bodies of lines and waits for changes that hold a quarter of `http.max_connections` at once; those of all tokens a half", false},
		{budgetCaller, "an address behind a trusted proxy", "`http.connections_per_address` requests at once", false},
		{budgetBody, "a request", fmt.Sprintf("%d KiB of a partner, %d KiB of others, %d MiB of lines of %d KiB each", maxPartnerBody>>10, maxBody>>10, maxLines>>20, maxLine>>10), false},
		{budgetValues, "a JSON text", fmt.Sprintf("%d members, %d values, %d levels", maxMembers, maxValues, maxDepth), false},
		{budgetWrongTokens, "an address, and an IPv6 /48", describeRate(failureBurst, failureInterval, 1) + "; of a /48 " + describeRate(siteFailureBurst, siteFailureInterval, 1) +
			fmt.Sprintf("; tokens that were valid within the last %d minutes still work", recentFor/time.Minute), false},
		{budgetUnknownTenants, "an address", "pulls about unknown tenants: " + describeRate(unknownBurst, unknownInterval, 1), false},
		{budgetStrangers, "a partner's token", "questions why a change has not arrived, about tenants that did not approve its app: " + describeRate(unknownBurst, unknownInterval, 1), true},
		{budgetTests, "an endpoint of an app", describeRate(apps.TestBurst, apps.TestInterval, 1), true},
		{budgetKeys, "a token's name", fmt.Sprintf("%d idempotency keys within their time", registry.IdempotencyKeysMax), false},
		{budgetAddresses, "an app", fmt.Sprintf("%d new mail addresses a day (`mail.new_addresses`), set by partners' tokens; all processes together", a.AppWriter.NewAddresses()), true},
		{budgetNames, "an app", "host names that are looked up because partners' tokens set or switch on URLs: " + describeRate(apps.NamesBurst, apps.NamesInterval, 1) + "; a write that needs more is refused", true},
		{budgetSettings, "an app", "writes of its settings by partners' tokens: " + describeRate(settingBurst, settingInterval, 1), true},
		{budgetResyncs, "an app", "resyncs of all tenants: one a minute, all processes together, and while one runs its job is the answer; of named tenants: " +
			describeRate(resyncBurst, resyncInterval, 1) + ", or one call of any size", true},
		{budgetWaiters, "a process", "engines that wait for changes", false},
	}
}

// describeRate says a limiter's size in words, multiplied by a factor.
func describeRate(burst int, interval time.Duration, factor int) string {
	burst, interval = burst*factor, interval/time.Duration(factor)
	if interval < time.Second {
		return fmt.Sprintf("%d at once, then %d a second", burst, time.Second/interval)
	}
	if interval == time.Second {
		return fmt.Sprintf("%d at once, then one a second", burst)
	}
	return fmt.Sprintf("%d at once, then one in %v", burst, interval.Round(time.Millisecond))
}
