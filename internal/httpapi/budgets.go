package httpapi

import (
	"fmt"
	"time"

	"github.com/lamplighter/lamplighter/internal/registry"
)

// Budget is what one owner may take of the service. Who asks for more is refused, and nobody else.
type Budget struct {
	// Name is the member budget of the refusal's problem, and a label of lamplighter_budget_refusals_total.
	Name string
	// Owner is who has one of its own, Size how much that is, in words.
	Owner, Size string
	// Raised budgets are multiplied by the app's budget_factor.
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

// Limits that are no settings, because each protects the service from callers.
const (
	// A partner's portal asks a little; the platform and its operators' tools ask a lot.
	partnerInterval = 20 * time.Millisecond
	partnerBurst    = 200
	otherInterval   = 500 * time.Microsecond
	otherBurst      = 10_000
	// What one partner's token does at once. The next requests wait for a moment, a few of them.
	partnerAtOnce  = 4
	partnerWaiting = 32
	partnerWithin  = time.Second
	// Wrong tokens from an address, and from all addresses of an IPv6 /48, which many a site has.
	failureInterval     = 6 * time.Second
	failureBurst        = 10
	siteFailureInterval = 500 * time.Millisecond
	siteFailureBurst    = 100
	unknownInterval     = time.Second
	unknownBurst        = 60
	// Settings change when people change them.
	settingInterval = time.Second
	settingBurst    = 20
	// Of the tenants that resyncs name.
	resyncInterval = 6 * time.Millisecond
	resyncBurst    = 1000
	namesInterval  = time.Second
	namesBurst     = 20
	testInterval   = 10 * time.Second
	testBurst      = 3
)

func allBudgets() []string {
	return []string{
		budgetRequests, budgetAtOnce, budgetLong, budgetCaller, budgetBody, budgetValues, budgetWrongTokens, budgetUnknownTenants, budgetStrangers,
		budgetTests, budgetKeys, budgetWaiters, budgetAddresses, budgetNames, budgetSettings, budgetResyncs,
	}
}

// Budgets lists what callers have, for documents.
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
			fmt.Sprintf("; tokens that were good within the last %d minutes still work", recentFor/time.Minute), false},
		{budgetUnknownTenants, "an address", "pulls about unknown tenants: " + describeRate(unknownBurst, unknownInterval, 1), false},
		{budgetStrangers, "a partner's token", "questions why it was not told, about tenants that did not approve it: " + describeRate(unknownBurst, unknownInterval, 1), true},
		{budgetTests, "an endpoint of an app", describeRate(testBurst, testInterval, 1), true},
		{budgetKeys, "a token's name", fmt.Sprintf("%d idempotency keys within their time", registry.IdempotencyKeysMax), false},
		{budgetAddresses, "an app", fmt.Sprintf("%d mail addresses a day that were not there (`mail.new_addresses`), of what partners' tokens set; all processes together", a.NewAddresses), true},
		{budgetNames, "an app", "host names that are looked up because partners' tokens set or switch on URLs: " + describeRate(namesBurst, namesInterval, 1) + "; a write that needs more than there are is not done", true},
		{budgetSettings, "an app", "writes of its settings by partners' tokens: " + describeRate(settingBurst, settingInterval, 1), true},
		{budgetResyncs, "an app", "resyncs of all tenants: one a minute, of all processes together, and in between the job that runs is the answer; of named tenants: " +
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
