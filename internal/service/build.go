package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/lamplighter/lamplighter/internal/alerting"
	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/auditlog"
	"github.com/lamplighter/lamplighter/internal/causewatch"
	"github.com/lamplighter/lamplighter/internal/compare"
	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/endpointtest"
	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/feed"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/incidents"
	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/probe"
	"github.com/lamplighter/lamplighter/internal/push"
	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/signing"
	"github.com/lamplighter/lamplighter/internal/sweep"
	"github.com/lamplighter/lamplighter/internal/wire"
)

// parts are the components of the listeners and the workers.
type parts struct {
	api       *httpapi.API
	fanout    *fanout.Fanout
	approvals *fanout.Approvals
	jobs      *jobs.Manager
	resyncer  *jobs.Resyncer
	tracker   *alerting.Tracker
	// drainTracker is the tracker for drains, with their connections to Redis.
	drainTracker  *alerting.Tracker
	propagator    *apps.Propagator
	apps          *apps.Writer
	tester        *endpointtest.Tester
	feed          *feed.Feed
	targets       *push.Targets
	waker         *drain.Dispatcher
	notifier      *fanout.Dispatcher
	sender        mailSender
	probes        *probe.Runner
	links         *mailer.Links
	subscriptions *mailer.Subscriptions
	// discovery is the discovery document.
	discovery atomic.Pointer[[]byte]
}

// queuePoll is how often the queues are polled; it is short, since another process's wake-ups arrive only by polling.
const queuePoll = 20 * time.Millisecond

// buildParts builds every part and connects them. Each step needs only those above it.
func (s *Service) buildParts() error {
	if err := s.buildKeys(); err != nil {
		return err
	}
	s.registerCollectors()
	s.queue = queue.NewClient(s.rdb, s.queueNamespace())
	s.buildGuard()
	if err := s.buildPush(); err != nil {
		return err
	}
	s.buildFanout()
	if err := s.buildTrackers(); err != nil {
		return err
	}
	if err := s.buildProbes(); err != nil {
		return err
	}
	s.buildFeed()
	s.buildApps()
	s.buildDrain()
	if err := s.buildMail(); err != nil {
		return err
	}
	if err := s.buildSweep(); err != nil {
		return err
	}
	s.buildJobs()
	return s.buildAPI()
}

func (s *Service) buildGuard() {
	g := s.cfg.Guard
	s.guard = guard.New(guard.Policy{
		AllowCIDRs: g.AllowCIDRs, AllowHTTP: g.AllowHTTP, AllowPorts: g.AllowPorts, AllowLoopback: s.opts.Loopback,
		DenyCIDRs: g.DenyCIDRs, DenyHosts: g.DenyHosts, NAT64Prefixes: g.NAT64Prefixes, MinRSABits: g.MinRSABits, Resolver: s.opts.Resolver,
		ShortKey: func(host string, bits int) {
			s.log.Warn("the certificate of an endpoint, or one that signed it, has a short RSA key", "host", host, "bits", bits)
		},
	}, guard.NewMetrics(s.metrics))
}

func (s *Service) buildKeys() (err error) {
	if s.keySet = s.opts.Keys; s.keySet == nil {
		if s.keySet, err = signing.LoadKeys(s.cfg.Signing.Keys...); err != nil {
			return fmt.Errorf("signing.keys: %w", err)
		}
	}
	return checkSigningKeys(s.keySet)
}

// checkSigningKeys checks that a set has a key for the default algorithm of apps.
func checkSigningKeys(set *signing.KeySet) error {
	if _, err := set.Signer(signing.RS256, time.Now()); err != nil {
		return fmt.Errorf("signing.keys: an RSA key is needed, since apps get RS256 tokens by default: %w", err)
	}
	return nil
}

// describeKeys makes the discovery document.
func (s *Service) describeKeys() error {
	discovery, err := signing.BuildDiscovery(s.cfg.Token.Issuer.StateChange, s.cfg.PublicURL, s.keySet.Algorithms())
	if err != nil {
		return fmt.Errorf("discovery document: %w", err)
	}
	s.parts.discovery.Store(&discovery)
	return nil
}

func (s *Service) buildPush() error {
	tokens, err := signing.NewTokenIssuer(s.keySet, s.cfg.Token.Issuer.StateChange)
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	d := s.cfg.Delivery
	s.causes = causewatch.New(causewatch.Options{
		Store: s.store, Process: uuid.NewString(), Within: max(causeWithin, s.cfg.Breaker.OpenForMax+d.Timeout+time.Minute),
		Metrics: causewatch.NewMetrics(s.metrics), Log: s.log,
	})
	s.wire = wire.New(wire.Options{
		Dial: s.causes.WrapDial(s.guard.Dialer().DialContext), IdlePerHost: d.InFlightPerApp, MaxAge: d.ConnectionMaxAge,
		Verify: s.guard.VerifyKeys,
	})
	s.parts.targets = push.NewTargets(push.New(push.Options{
		Wire: s.wire, Check: s.guard.CheckURL, Tokens: tokens,
		Timeout: d.Timeout, Version: s.opts.Version, Reach: s.causes,
	}), s.env)
	return nil
}

// causeWithin is the least time during which a failed host counts for a common cause.
const causeWithin = 2 * time.Minute

func (s *Service) buildFanout() {
	p := &s.parts
	p.waker = drain.NewDispatcher(s.queue)
	p.notifier = fanout.NewDispatcher(s.queue, nil)
	metrics := fanout.NewMetrics(s.metrics)
	p.fanout = fanout.New(fanout.Options{
		Tenants: s.store, Mailboxes: s.deposits, Apps: s.dir, Waker: p.waker, Metrics: metrics, Log: s.log,
	})
	p.approvals = fanout.NewApprovals(fanout.ApprovalsOptions{
		Index: s.store, Admissions: s.deposits, Apps: s.dir, Waker: p.waker, Metrics: metrics, Log: s.log,
	})
	p.jobs = jobs.NewManager(s.store, s.deposits, s.boxes, s.wakeJobs, time.Now)
	p.resyncer = jobs.NewResyncer(jobs.ResyncerOptions{Apps: s.dir, Approvals: p.approvals, Jobs: p.jobs, Pauses: s.store})
	if s.hasRole(RoleWorker) {
		s.runner = fanout.NewRunner(p.fanout.Run, p.notifier.EnqueueTenants, s.log)
		p.notifier = fanout.NewDispatcher(s.queue, s.runner)
	}
}

// incidentSettings are the settings of the incident machine.
func (s *Service) incidentSettings() incident.Settings {
	set := incident.DefaultSettings()
	set.OpenAfter, set.RecoverAfter = s.cfg.Incident.OpenAfter, s.cfg.Incident.RecoverAfter
	set.RemindAfter, set.SwitchOffAfter = s.cfg.Incident.RemindAfter, s.cfg.Delivery.SwitchOffAfter
	return set
}

func (s *Service) buildTrackers() error {
	plan, err := newProbeSchedule(s.cfg.Probe)
	if err != nil {
		return err
	}
	p := &s.parts
	o := alerting.Options{
		Licences: s.licences,
		Probes:   &probe.Forecast{States: s.probes, Licences: s.licences, Schedule: plan, Environment: s.env, Idle: s.cfg.Probe.Interval == 0},
		Apps:     s.dir, Store: s.incidents, Queue: s.queue, Mailboxes: s.boxes, Environment: s.env,
		Settings: s.incidentSettings(), CommonCause: s.causes.CommonCause, Metrics: alerting.NewMetrics(s.metrics), Log: s.log,
	}
	p.tracker, p.drainTracker = alerting.New(o), nil
	if s.drains != nil {
		space := keys.New(s.cfg.Redis.Prefix)
		o.Store, o.Queue = registry.NewIncidentStore(s.drains, space, s.cfg.Retention.Incidents), queue.NewClient(s.drains, s.queueNamespace())
		o.Mailboxes = mailbox.New(s.drains, space, s.boxes.Settings())
		p.drainTracker = alerting.New(o)
	}
	return nil
}

// buildApps builds what tests endpoints, writes apps, and passes the writes on.
func (s *Service) buildApps() {
	p := &s.parts
	p.tester = endpointtest.New(endpointtest.Options{
		Apps: s.dir, Store: s.store, Mailboxes: s.boxes, Resyncer: p.approvals, Waker: p.waker, Targets: p.targets, Incidents: p.tracker,
		Prober: p.probes, Guard: s.guard, Environment: s.env, Timeout: s.cfg.Delivery.Timeout,
	})
	o := apps.PropagatorOptions{
		Mailboxes: s.boxes, Waker: p.waker, Jobs: p.jobs, Incidents: p.tracker, Probes: s.probes, Environment: s.env,
	}
	if s.hasRole(RoleAPI) {
		o.PollFeed = p.feed.PollNow
	}
	p.propagator = apps.NewPropagator(o)
	p.apps = apps.New(apps.Options{
		Store: s.store, Effects: p.propagator, Addresses: hostChecker{s.guard, cmp.Or(s.opts.Resolver, net.DefaultResolver)}, Prober: p.tester,
		Licences: s.licences, Environment: s.env, NewAddresses: s.cfg.Mail.NewAddresses, Now: time.Now, Random: rand.Reader, Log: s.log,
	})
}

func (s *Service) buildDrain() {
	if !s.hasRole(RoleWorker) {
		return
	}
	d, p := s.cfg.Delivery, &s.parts
	s.recorder = drain.NewRecorder(s.store, s.cfg.Retention.Deliveries, s.log)
	mine := drain.NewDispatcher(queue.NewClient(s.drains, s.queueNamespace()))
	s.drainer = drain.New(drain.Options{
		Mailbox:   mailbox.New(s.drains, keys.New(s.cfg.Redis.Prefix), s.boxes.Settings()),
		Endpoints: drain.NewEndpointDirectory(drain.DirectoryOptions{Apps: s.dir, Targets: p.targets, Switcher: p.apps, Environment: s.env}), Waker: mine,
		Observer: drain.NewIncidentReporter(s.recorder, p.drainTracker),
		Metrics:  drain.NewMetrics(s.metrics), Log: s.log,
		Schedule: delivery.Schedule(d.RetrySchedule), Cooldown: delivery.Cooldown{Base: s.cfg.Breaker.OpenFor, Max: s.cfg.Breaker.OpenForMax},
		BreakerFailures: s.cfg.Breaker.Failures, InFlightPerApp: d.InFlightPerApp, InFlight: d.InFlight, Waiting: d.DrainersWaiting, Budget: d.DrainBudget,
		Timeout: d.Timeout, EntryLease: d.EntryLease, OwnerLease: d.OwnerLease,
	})
	p.waker.DispatchTo(s.drainer)
	mine.DispatchTo(s.drainer)
}

func (s *Service) buildSweep() error {
	p := &s.parts
	if !s.hasRole(RoleWorker) {
		return nil
	}
	sweeps := sweep.NewMetrics(s.metrics)
	s.sweeper = sweep.New(sweep.Options{
		Registry: s.store, Apps: s.dir, Mailboxes: s.boxes, Waker: p.waker, Notifier: fanout.NewDispatcher(s.queue, nil), // any replica may do the repairs
		Repairer: fanout.NewRepairer(fanout.RepairOptions{Approvals: p.approvals, Index: s.store}),
		Incidents: alerting.NewAdvancer(alerting.AdvancerOptions{
			Tracker: p.tracker, Open: s.incidents, Mailboxes: s.boxes, Resyncer: p.approvals, Switcher: p.apps,
		}),
		Mails:   &pendingMails{IncidentStore: s.incidents, sender: p.sender, tracker: p.tracker, disabled: s.cfg.SMTP.Disabled},
		Metrics: sweeps, Environment: s.env, Every: s.cfg.Delivery.Sweep, Log: s.log,
	})
	s.comparer = compare.New(compare.Options{
		Registry: s.store, Mailboxes: s.boxes, Approvals: p.approvals, Jobs: p.resyncer, Apps: s.dir,
		Primaries: func(ctx context.Context) (string, error) { return redisconn.IdentifyPrimaries(ctx, s.rdb) },
		Metrics:   compare.NewMetrics(s.metrics), Log: s.log,
	})
	written := auditlog.NewMetrics(s.metrics)
	if s.cfg.Audit.WriteTo == "" {
		return nil
	}
	sink, err := auditlog.ParseSink(s.cfg.Audit.WriteTo)
	if err != nil {
		return fmt.Errorf("audit.write_to: %w", err)
	}
	s.auditor = auditlog.New(auditlog.Options{
		Store: s.store, Sink: sink, Holder: uuid.NewString(), Loops: sweeps.Loops(), Metrics: written, Log: s.log,
	})
	return nil
}

func (s *Service) buildFeed() {
	s.parts.feed = feed.New(feed.Options{
		Store: s.store, Apps: s.dir, Environment: s.env, Licences: s.licences, Metrics: feed.NewMetrics(s.metrics), Log: s.log,
	})
}

func (s *Service) buildAPI() error {
	p := &s.parts
	if err := s.describeKeys(); err != nil {
		return err
	}
	metrics := intake.NewMetrics(s.metrics)
	changes := struct {
		*intake.Intake
		*intake.StatusReader
	}{intake.New(s.store, p.notifier, metrics, s.log), intake.NewStatusReader(s.store, s.boxes, s.dir, s.env)}
	limits := s.connLimits()
	p.api = httpapi.New(httpapi.Deps{
		Connections: limits.Total, CallerRequests: limits.PerAddress,
		Version: s.opts.Version, Environment: s.env, Licences: s.licences, ValidFor: s.cfg.State.ValidFor,
		StatesInFlight: maxStatesInFlight(s.cfg), Tokens: s.store, TokenKeeper: s.store, TokenUses: s.store, Resealer: s.store, Auditor: s.store, Apps: s.store, AppWriter: p.apps,
		HealthReader: probe.NewHealthReader(probe.HealthOptions{
			Incidents: s.incidents, States: s.probes, Attempts: s.store, Licences: s.licences, Environment: s.env, Idle: s.cfg.Probe.Interval == 0, Log: s.log,
		}),
		Tester:    p.tester,
		Approvals: fanout.NewReportedApprovals(p.approvals, p.tracker), ApprovalList: s.boxes, Resyncer: p.resyncer, Jobs: p.jobs, Mailboxes: s.boxes, Deliveries: s.store,
		Explainer: intake.NewStatusExplainer(s.store, s.boxes, s.store, s.env, s.causes.CommonCause), Tenants: s.store, Statuses: s.store, Changes: changes, Keys: s.store, IdempotencyStore: s.store,
		MailSubscriptions: p.subscriptions, Incidents: incidents.New(incidents.Options{Store: s.incidents, Tracker: p.tracker, Apps: s.dir, Audit: s.store}), Audit: s.store,
		ErrorReports: &errorReports{registry.NewIncidentStore(s.durable, keys.New(s.cfg.Redis.Prefix), s.cfg.Retention.Incidents), s.cfg.Retention.Idempotency}, ConfigFeed: p.feed,
		Discovery: func() []byte { return *p.discovery.Load() }, JWKS: s.keySet.JWKS,
		Cursors: s.ring, Origins: s.cfg.HTTP.CORS, TrustedProxies: s.cfg.HTTP.TrustedProxies,
		StoreFault: storeFaultName, Refused: metrics.CountRefused, Log: s.log, Registerer: s.metrics,
		Store: s.watch, StoreFull: s.storeFull,
	})
	return nil
}

// maxStatesInFlight leaves half of the connections to Redis to notifications and the admin API.
func maxStatesInFlight(c config.Config) int { return min(c.State.InFlight, c.Redis.PoolSize/2) }

// storeFaultName is the log's name for a fault of the store, empty for an error that is not the store's.
func storeFaultName(err error) string { return string(redisconn.ClassifyFault(err)) }
