package httpapi

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/ratelimit"
)

// Deps are the dependencies of the API. An operation whose dependency is nil answers 404.
type Deps struct {
	// Version is the service's, for the API's own description.
	Version     string
	Environment partner.Environment
	// Licences says which licence an endpoint needs; nil needs none.
	Licences partner.Requirements
	// ValidFor is the length of the pull's validity cells, state.valid_for; a minute when 0.
	ValidFor time.Duration
	// StatesInFlight is how many pulls read their status at once, state.in_flight; 32 when 0.
	StatesInFlight int
	// Connections is how many a listener has at most; 10,000 when 0. CallerRequests is how many requests an
	// address behind a trusted proxy may have at once; half of Connections when 0.
	Connections, CallerRequests int
	// SecretGrace is how long requests are also signed with a replaced webhook secret; a day when 0.
	SecretGrace time.Duration

	Tokens Tokens
	// TokenKeeper makes and revokes tokens; TokenUses records their use, nil records nothing.
	TokenKeeper  TokenKeeper
	TokenUses    TokenUses
	Apps         Apps
	AppWriter    AppWriter
	HealthReader HealthReader
	Tester       Tester
	Approvals    Approvals
	// ApprovalList lists an app's approvals in pages.
	ApprovalList ApprovalLister
	Resyncer     Resyncer
	Jobs         Jobs
	Mailboxes    MailboxViewer
	Deliveries   Deliveries
	Explainer    StatusExplainer
	Tenants      Tenants
	Statuses     Statuses
	Changes      Changes
	// Refused counts changes that were refused before Changes saw them; nil counts nothing.
	Refused func(n int)
	Keys    KeyBinder
	// IdempotencyStore keeps answers under idempotency keys; nil keeps none.
	IdempotencyStore IdempotencyStore
	Incidents        Incidents
	Audit            Audit
	// Auditor writes audit entries for actions that no store audits itself; nil writes none.
	Auditor      Auditor
	Resealer     Resealer
	ErrorReports ErrorReports
	ConfigFeed   ConfigFeed
	// StoreFull says how full the store is; full is true when partners' writes must be refused. nil: never full.
	StoreFull func() (percent int, full bool)
	// Store says whether the store may be used; nil: always.
	Store StoreWatch
	// MailSubscriptions executes the links in mails.
	MailSubscriptions MailSubscriptions
	// Discovery and JWKS are the two documents with which receivers find the signing keys.
	Discovery, JWKS func() []byte

	// Cursors signs the cursors of lists. With nil they are valid only in this process.
	Cursors CursorSigner
	// Origins are those whose scripts may call the API from a browser. TrustedProxies are the proxies whose
	// forwarding headers name the caller's address.
	Origins        []string
	TrustedProxies []netip.Prefix

	// StoreFault names why the store did not answer, from a closed set. It is empty for errors that a repeat does
	// not cure. Callers are answered that the store is away; the log has the name. Required.
	StoreFault func(error) string
	// Now is the clock, time.Now when nil; Random makes ids and secrets, crypto/rand when nil.
	Now    func() time.Time
	Random io.Reader
	Log    *slog.Logger
	// Registerer takes the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// API serves the HTTP operations. It is safe for concurrent use.
type API struct {
	Deps

	auth    *authenticator
	metrics *metrics
	routes  []route
	// unknown bounds the pull's answers about unknown tenants per address.
	unknown *ratelimit.Limiter
	// strangers bounds a partner's answers about tenants that did not approve its app, per token.
	strangers *ratelimit.Limiter
	// pulls bounds the pulls that read their status.
	pulls *boundedSemaphore
	// partners and others bound the rate of one token's requests, atOnce a partner's requests at once.
	partners, others *ratelimit.Limiter
	atOnce           *keyedSemaphores
	// long bounds the requests of a token that have no time limit, callers those of an address behind a trusted
	// proxy.
	long, callers *concurrencyLimiter
	// parsing bounds the bodies that are parsed at once, auditReads the pages of the audit that are read at once.
	parsing    *parseLimits
	auditReads *semaphore.Weighted
	// exports bounds the pages of exports to one at a time.
	exports *semaphore.Weighted
	factors *budgetFactors
	// settings bounds the writes of an app's partner, resyncs the tenants that an app's resyncs name.
	settings, resyncs *ratelimit.Limiter
	// resyncing are the apps with a running resync of named tenants.
	resyncing busyApps
	// contract makes the API's description at its first call.
	contract func() contract
}

// Defaults, and limits that are constants.
const (
	defaultValidFor    = time.Minute
	defaultSecretGrace = 24 * time.Hour
	defaultInFlight    = 32
	// How many pulls may wait for each that reads, and for how long: less than callers notice, and long enough for
	// a brief pause of Redis.
	pullsWaiting       = 32
	pullsWithin        = 250 * time.Millisecond
	requestWithin      = 30 * time.Second
	defaultConnections = 10_000
)

// New makes the API. The metrics have its routes as labels, so a Registerer can be used for one API only.
func New(d Deps) *API {
	if d.ValidFor <= 0 {
		d.ValidFor = defaultValidFor
	}
	if d.StatesInFlight <= 0 {
		d.StatesInFlight = defaultInFlight
	}
	if d.Connections <= 0 {
		d.Connections = defaultConnections
	}
	if d.CallerRequests <= 0 {
		d.CallerRequests = max(d.Connections/2, 1)
	}
	if d.SecretGrace <= 0 {
		d.SecretGrace = defaultSecretGrace
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Random == nil {
		d.Random = rand.Reader
	}
	if d.Cursors == nil {
		d.Cursors = newCursorSigner(d.Random)
	}
	if d.Refused == nil {
		d.Refused = func(int) {}
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{
		Deps: d, auth: newAuthenticator(d.Tokens, d.TokenUses, d.Store, d.Log),
		unknown:   ratelimit.New(unknownInterval, unknownBurst),
		strangers: ratelimit.New(unknownInterval, unknownBurst),
		pulls:     newBoundedSemaphore(d.StatesInFlight, d.StatesInFlight*pullsWaiting, pullsWithin),
		partners:  ratelimit.New(partnerInterval, partnerBurst), others: ratelimit.New(otherInterval, otherBurst),
		atOnce: newKeyedSemaphores(func(factor int) *boundedSemaphore {
			return newBoundedSemaphore(partnerAtOnce*factor, partnerWaiting*factor, partnerWithin)
		}),
		long: newConcurrencyLimiter(max(d.Connections/4, 1), max(d.Connections/2, 1)), callers: newConcurrencyLimiter(d.CallerRequests, d.Connections),
		settings: ratelimit.New(settingInterval, settingBurst), resyncs: ratelimit.New(resyncInterval, resyncBurst),
		factors: newBudgetFactors(d.Apps), parsing: newParseLimits(), auditReads: newHeavyLimit(), exports: semaphore.NewWeighted(1),
	}
	a.routes = a.allRoutes()
	a.contract = sync.OnceValue(a.buildContract)
	a.metrics = newMetrics(d.Registerer, a.routes)
	return a
}

// AdminHandler serves the admin and the public operations.
func (a *API) AdminHandler() http.Handler { return a.newRouteHandler(a.routes) }

// PublicHandler serves only the public operations.
func (a *API) PublicHandler() http.Handler {
	var public []route
	for _, r := range a.routes {
		if r.isOnPublicListener() {
			public = append(public, r)
		}
	}
	return a.newRouteHandler(public)
}
