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

	"github.com/lamplighter/lamplighter/internal/partner"
)

// Deps is what the API stands on. Operations whose part is nil are absent: they answer 404.
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
	// SecretGrace is how long a replaced webhook secret signs along; a day when 0.
	SecretGrace time.Duration

	Tokens Tokens
	// TokenKeeper makes and ends them; TokenUses notes their use, nil notes nothing.
	TokenKeeper TokenKeeper
	TokenUses   TokenUses
	Apps        Apps
	AppWriter   AppWriter
	// AppEvents hears of every write to an app.
	AppEvents AppEvents
	Addresses AddressChecker
	Health    HealthReader
	Tester    Tester
	Approvals Approvals
	// ApprovalList pages through an app's approvals.
	ApprovalList ApprovalLister
	Resyncer     Resyncer
	Jobs         Jobs
	Mailboxes    MailboxViewer
	Deliveries   Deliveries
	Explainer    Explainer
	Tenants      Tenants
	Statuses     Statuses
	Changes      Changes
	// Refused counts changes that were refused before Changes saw them; nil counts nothing.
	Refused func(n int)
	Keys    KeyBinder
	// Outcomes keeps answers under idempotency keys; nil keeps none.
	Outcomes  Outcomes
	Incidents Incidents
	Audit     Audit
	// Auditor notes what no store audits by itself; nil notes nothing.
	Auditor      Auditor
	Resealer     Resealer
	ErrorReports ErrorReports
	ConfigFeed   ConfigFeed
	// StoreFull says how full the store is when partners' writes must leave what is left to others; nil: never.
	StoreFull func() (percent int, full bool)
	// Store says whether the store may be used; nil: always.
	Store StoreWatch
	// MailDesk does what the links in mails ask for.
	MailDesk MailDesk
	// Discovery and JWKS are the two documents by which receivers find the signing keys.
	Discovery, JWKS func() []byte

	// Cursors signs the cursors of lists. With nil they hold for this process alone.
	Cursors Cursors
	// Origins are whose scripts may call the API from a browser; TrustedProxies are believed about
	// where a request comes from.
	Origins        []string
	TrustedProxies []netip.Prefix

	// StoreFault names why the store did not answer, of a closed set, and is empty for errors that a
	// repeat does not cure. Callers hear that it is away, the log has the name. Required.
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
	// unknown bounds the pull's answers about unknown tenants per address, tests the endpoint
	// tests per app and endpoint.
	unknown, tests *limiter
	// strangers bounds a partner's answers about tenants that did not approve its app, per token.
	strangers *limiter
	// pulls bounds the pulls that read their status.
	pulls *gate
	// partners and others bound the requests of one token.
	partners, others *limiter
	// settings bounds the writes of an app's partner, resyncs the tenants that an app's resyncs name.
	settings, resyncs *limiter
	// resyncing are the apps with a resync of named tenants under way.
	resyncing busy
	// contract makes the description when it is first asked for.
	contract func() contract
}

// Limits that are no settings, because each protects the service from callers.
const (
	defaultValidFor    = time.Minute
	defaultSecretGrace = 24 * time.Hour
	defaultInFlight    = 32
	// Pulls that wait for their turn, for each that has it, and for how long: less than callers notice, and
	// long enough for Redis to pause briefly.
	pullsWaiting    = 32
	pullsWithin     = 250 * time.Millisecond
	unknownInterval = time.Second
	unknownBurst    = 60
	testInterval    = 10 * time.Second
	testBurst       = 3
	requestWithin   = 30 * time.Second
	// A partner's portal asks a little; the platform and its operators' tools ask a lot.
	partnerInterval = 20 * time.Millisecond
	partnerBurst    = 200
	// Settings change when people change them.
	settingInterval = time.Second
	settingBurst    = 20
	// Of the tenants that resyncs name.
	resyncInterval = 6 * time.Millisecond
	resyncBurst    = 1000
	otherInterval  = 500 * time.Microsecond
	otherBurst     = 10_000
)

// New makes the API. The registered metrics know its routes, so a Registerer takes one API only.
func New(d Deps) *API {
	if d.ValidFor <= 0 {
		d.ValidFor = defaultValidFor
	}
	if d.StatesInFlight <= 0 {
		d.StatesInFlight = defaultInFlight
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
		d.Cursors = ownCursors(d.Random)
	}
	if d.Refused == nil {
		d.Refused = func(int) {}
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{
		Deps: d, auth: newAuthenticator(d.Tokens, d.TokenUses, d.Store, d.Log),
		unknown: newLimiter(unknownInterval, unknownBurst), tests: newLimiter(testInterval, testBurst),
		strangers: newLimiter(unknownInterval, unknownBurst),
		pulls:     newGate(d.StatesInFlight, d.StatesInFlight*pullsWaiting, pullsWithin),
		partners:  newLimiter(partnerInterval, partnerBurst), others: newLimiter(otherInterval, otherBurst),
		settings: newLimiter(settingInterval, settingBurst), resyncs: newLimiter(resyncInterval, resyncBurst),
	}
	a.routes = a.table()
	a.contract = sync.OnceValue(a.describe)
	a.metrics = newMetrics(d.Registerer, a.routes)
	return a
}

// Admin serves the admin and the public operations.
func (a *API) Admin() http.Handler { return a.handler(a.routes) }

// Public serves the public operations alone.
func (a *API) Public() http.Handler {
	var public []route
	for _, r := range a.routes {
		if r.outside() {
			public = append(public, r)
		}
	}
	return a.handler(public)
}
