package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/auditlog"
	"github.com/lamplighter/lamplighter/internal/causewatch"
	"github.com/lamplighter/lamplighter/internal/compare"
	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/drain"
	"github.com/lamplighter/lamplighter/internal/fanout"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/httpapi"
	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/probe"
	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/redisconn"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/signing"
	"github.com/lamplighter/lamplighter/internal/storewatch"
	"github.com/lamplighter/lamplighter/internal/sweep"
	"github.com/lamplighter/lamplighter/internal/wire"
)

// Roles that a process can have.
const (
	RoleAPI    = "api"
	RoleWorker = "worker"
)

// Options say what to build.
type Options struct {
	Config  config.Config
	Version string
	Log     *slog.Logger
	// Redis replaces the client that the settings describe; the caller closes it.
	Redis redis.UniversalClient
	// Keys replaces the signing keys that the settings name.
	Keys *signing.KeySet
	// Loopback allows endpoints on this machine, also by plain http.
	Loopback bool
	// Unsafe waives all safety checks of Redis, for one without persistence.
	Unsafe bool
	// Resolver resolves endpoints' names, nil for the machine's resolver.
	Resolver *net.Resolver
}

// Service is one process. The order of calls is New, then Run once.
type Service struct {
	opts  Options
	cfg   config.Config
	env   partner.Environment
	log   *slog.Logger
	rdb   redis.UniversalClient
	owned bool
	// durable waits for replicas after each write, if the settings ask for it; otherwise it is rdb.
	durable redis.UniversalClient
	// drains are the drains' own connections, nil in a process without drains. A thousand waiting drains must not
	// delay a loop or a call of the API.
	drains redis.UniversalClient
	// redisBlocker is in front of both; watch closes it.
	redisBlocker redisconn.Blocker
	watch        *storewatch.Watch
	// licences are what endpoints need before they are called.
	licences partner.Requirements

	store      *registry.Store
	ring       *secret.Keyring
	incidents  *registry.IncidentStore
	mailQueues *registry.MailQueueStore
	probes     *registry.ProbeStore
	transport  *mailer.SMTP // nil without mail
	wire       *wire.Client
	causes     *causewatch.Watch
	dir        *registry.Directory
	boxes      *mailbox.Store
	// deposits are the same mailboxes, written through durable.
	deposits *mailbox.Store
	metrics  *prometheus.Registry
	keySet   *signing.KeySet
	guard    *guard.Guard
	queue    *queue.Client
	monitor  *redisconn.Monitor
	// redisCert exports when the client certificate for Redis ends.
	redisCert prometheus.Collector

	drainer  *drain.Drainer
	recorder *drain.Recorder
	runner   *fanout.Runner
	sweeper  *sweep.Sweeper
	comparer *compare.Comparer
	// auditor writes the audit log out; nil when the settings name no target.
	auditor   *auditlog.Writer
	jobs      *jobs.Runner
	finder    *jobs.Finder
	scheduler *probe.Scheduler
	server    *queue.Server
	listeners []listener

	parts parts
}

// listener is an HTTP server and the socket it serves.
type listener struct {
	name   string
	socket net.Listener
	server *http.Server
}

func (s *Service) hasRole(role string) bool {
	return len(s.cfg.Roles) == 0 || slices.Contains(s.cfg.Roles, role)
}

// New builds a service and binds its listeners. On an error nothing is left running.
func New(ctx context.Context, opts Options) (_ *Service, err error) {
	s := &Service{opts: opts, cfg: opts.Config, log: opts.Log, metrics: prometheus.NewRegistry()}
	if s.env, err = partner.ParseEnvironment(s.cfg.Environment); err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	if s.licences, err = partner.ParseRequirements(s.cfg.Licences.Required); err != nil {
		return nil, fmt.Errorf("licences.required: %w", err)
	}
	defer func() {
		if err != nil {
			s.closeConnections()
		}
	}()
	if err := s.connectRedis(ctx); err != nil {
		return nil, err
	}
	if err := s.openStores(ctx); err != nil {
		return nil, err
	}
	if err := s.buildParts(); err != nil {
		return nil, err
	}
	return s, s.openListeners(ctx)
}

func (s *Service) openStores(ctx context.Context) error {
	ring, err := s.newKeyring()
	if err != nil {
		return err
	}
	s.ring = ring
	space := keys.New(s.cfg.Redis.Prefix)
	r := s.cfg.Retention
	s.store = registry.New(s.rdb, registry.Options{
		Keys: space, Keyring: ring, Durable: s.durable, ChangesKeep: r.Changes, IdempotencyKeep: r.Idempotency, DeliveriesKeep: r.Deliveries,
		IncidentsKeep: r.Incidents, AuditKeep: r.Audit,
	})
	s.incidents = registry.NewIncidentStore(s.rdb, space, r.Incidents)
	s.mailQueues = registry.NewMailQueueStore(s.rdb, space)
	s.probes = registry.NewProbeStore(s.rdb, space)
	s.dir = registry.NewDirectory(s.store)
	s.dir.OnUnreadable(func(ctx context.Context, unreadable error) {
		s.log.ErrorContext(ctx, "apps cannot be read: they are served as they were before, or not at all", "err", unreadable)
	})
	d := s.cfg.Delivery
	times := mailbox.Settings{
		OwnerLease: d.OwnerLease, EntryLease: d.EntryLease, Grace: d.Grace, Horizon: 3 * d.Sweep, RevisionKey: space.Config(keys.ConfigRevision),
	}
	s.boxes, s.deposits = mailbox.New(s.rdb, space, times), mailbox.New(s.durable, space, times)
	if err := s.claimStore(ctx); err != nil {
		return err
	}
	s.watch = storewatch.New(storewatch.Options{
		Store: s.store, Blocker: &s.redisBlocker, Claim: s.claimStore, Process: uuid.NewString(), Metrics: storewatch.NewMetrics(s.metrics), Log: s.log,
	})
	if err := s.watch.Begin(ctx); err != nil {
		return err
	}
	if err := s.dir.Refresh(ctx); err != nil {
		return fmt.Errorf("read apps: %w", err)
	}
	return nil
}

// claimStore does what must be done before the store is used: at a start, and before a changed store is accepted. It
// may be repeated.
func (s *Service) claimStore(ctx context.Context) error {
	if err := s.store.ClaimEnvironment(ctx, s.env); err != nil {
		return fmt.Errorf("claim environment: %w", err)
	}
	if err := s.store.ClaimFormat(ctx); err != nil {
		return fmt.Errorf("claim data: %w", err)
	}
	return s.createBootstrapToken(ctx)
}

func (s *Service) newKeyring() (*secret.Keyring, error) {
	current, err := secret.ParseKey(s.cfg.Encryption.Key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("encryption.key: %w", err)
	}
	older := make([]secret.Key, len(s.cfg.Encryption.OlderKeys))
	for i, k := range s.cfg.Encryption.OlderKeys {
		if older[i], err = secret.ParseKey(k.Reveal()); err != nil {
			return nil, fmt.Errorf("encryption.older_keys[%d]: %w", i, err)
		}
	}
	return secret.NewKeyring(current, older...), nil
}

// bootstrapLife is how long the first admin token is valid: long enough to make others.
const bootstrapLife = 365 * 24 * time.Hour

func (s *Service) createBootstrapToken(ctx context.Context) error {
	if s.cfg.BootstrapToken.IsZero() {
		return nil
	}
	token := s.cfg.BootstrapToken.Reveal()
	hash := httpapi.HashToken(token)
	if known, err := s.isBootstrapped(ctx, token, hash); known || err != nil {
		return err
	}
	now := time.Now().UTC()
	created, err := s.store.CreateToken(ctx, registry.Token{
		// an id derived from the token would help to guess it
		ID: "bootstrap-" + strings.ToLower(rand.Text()[:12]), Name: "bootstrap", Role: "admin", CreatedAt: now, ExpiresAt: now.Add(bootstrapLife),
	}, hash, true, registry.Actor{Name: "bootstrap", Role: "service"})
	if errors.Is(err, registry.ErrConflict) { // another process added it meanwhile
		if known, again := s.isBootstrapped(ctx, token, hash); known || again != nil {
			return again
		}
	}
	if few, ok := errors.AsType[*redisconn.ReplicasError](err); ok {
		// a process must start while replicas are away; after a failover the next start makes a lost token again
		s.log.WarnContext(ctx, "the first admin token may not outlive a failover", "err", few)
		return nil
	}
	if err != nil {
		return fmt.Errorf("create the first admin token: %w", err)
	}
	if created {
		s.log.InfoContext(ctx, "bootstrap token became the first admin token")
	}
	return nil
}

// bootstrapMin is the least length of a new bootstrap token, in characters.
const bootstrapMin = 32

// isBootstrapped reports whether the store needs no bootstrap token. This is so if the store knows this token,
// expired or not. It is also so if the token is too short to be accepted and there is another valid admin token.
func (s *Service) isBootstrapped(ctx context.Context, token, hash string) (bool, error) {
	short := fmt.Sprintf("bootstrap_token has %d characters, fewer than %d: make a better one with openssl rand -hex 24", len(token), bootstrapMin)
	known, err := s.store.TokenByHash(ctx, hash)
	switch {
	case err == nil && known.Role != httpapi.Admin.String():
		return false, fmt.Errorf("bootstrap_token is the token %s of the role %s: take a new one", known.ID, known.Role)
	case err == nil:
		if len(token) < bootstrapMin {
			s.log.WarnContext(ctx, "the bootstrap token is known, but too short for a new one", "advice", short)
		}
		return true, nil
	case !errors.Is(err, registry.ErrNotFound):
		return false, fmt.Errorf("look for the first admin token: %w", err)
	case len(token) >= bootstrapMin:
		return false, nil
	}
	good, err := s.store.HasValidToken(ctx, httpapi.Admin.String())
	if err != nil {
		return false, fmt.Errorf("look for an admin token: %w", err)
	}
	if !good {
		return false, errors.New(short)
	}
	s.log.WarnContext(ctx, "the bootstrap token is too short and is not used", "advice", short)
	return true, nil
}

// registerCollectors registers the metrics of the runtime, Redis and the queues.
func (s *Service) registerCollectors() {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "lamplighter_build_info", Help: "1, labelled with the version and environment of this process.",
		ConstLabels: prometheus.Labels{"version": s.opts.Version, "environment": string(s.env)},
	})
	info.Set(1)
	roles := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "lamplighter_role", Help: "1 for each role that this process has, 0 for the others.",
	}, []string{"role"})
	for _, role := range []string{RoleAPI, RoleWorker} {
		value := 0.0
		if s.hasRole(role) {
			value = 1
		}
		roles.WithLabelValues(role).Set(value)
	}
	unreadable := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lamplighter_unreadable_apps", Help: "Apps whose last write this process cannot read.",
	}, func() float64 { return float64(s.dir.CountUnreadable()) })
	s.monitor = redisconn.NewMonitor(s.rdb, s.metrics, s.log, WaivedChecks(s.cfg.Redis)...)
	s.metrics.MustRegister(
		info, roles, unreadable, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		redisconn.NewPoolCollector(s.redisPools()...), s.redisCert, queue.NewCollector(s.rdb, s.queueNamespace()), newKeyCollector(s.keySet),
	)
}

// Addr returns the address of the listener "api", "ops" or "public"; empty when there is none.
func (s *Service) Addr(name string) string {
	for _, l := range s.listeners {
		if l.name == name {
			return l.socket.Addr().String()
		}
	}
	return ""
}

func (s *Service) openListeners(ctx context.Context) error {
	limiter := httpapi.NewConnLimiter(s.metrics)
	add := func(name, addr string, limits httpapi.ConnLimits, h http.Handler) error {
		if addr == "" {
			return nil
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", name, err)
		}
		server := httpapi.NewServer(h, s.log)
		s.listeners = append(s.listeners, listener{name, limiter.LimitListener(name, l, server, limits), server})
		return nil
	}
	api := s.parts.api
	ops := api.OpsHandler(httpapi.OpsOptions{
		Metrics: promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}), Readiness: s.readinessChecks, Pprof: s.cfg.OpsPprof,
	})
	if err := add("ops", s.cfg.OpsListen, httpapi.ConnLimits{Total: opsConnections, PerAddress: opsConnections}, ops); err != nil {
		return err
	}
	if !s.hasRole(RoleAPI) {
		return nil
	}
	if err := add("api", s.cfg.Listen, s.connLimits(), api.AdminHandler()); err != nil {
		return err
	}
	return add("public", s.cfg.PublicListen, s.connLimits(), api.PublicHandler())
}

// connLimits are the limits of each listener of the API.
func (s *Service) connLimits() httpapi.ConnLimits {
	facing := 1
	if s.cfg.PublicListen != "" {
		facing = 2
	}
	most := limitConnections(s.cfg.HTTP.MaxConnections, facing)
	each := s.cfg.HTTP.ConnectionsPerAddress
	if each == 0 {
		each = max(most/2, 1)
	}
	return httpapi.ConnLimits{Total: most, PerAddress: min(each, most), Exempt: s.cfg.HTTP.TrustedProxies}
}

// opsConnections is the most connections of the operators' listener.
const opsConnections = 256

// Run serves until ctx ends, then stops in order: requests first, then drains, then the rest. It returns when
// everything has stopped or the shutdown timeout is over.
func (s *Service) Run(ctx context.Context) error {
	defer s.closeConnections()
	// what records results must outlive what produces them
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	var work sync.WaitGroup
	failed := make(chan error, len(s.listeners)+1)
	for _, l := range s.listeners {
		work.Go(func() {
			if err := l.server.Serve(l.socket); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", l.name, err)
			}
		})
	}
	work.Go(func() { s.watch.Run(background) })
	work.Go(func() { s.causes.Run(background) })
	if s.hasRole(RoleAPI) {
		work.Go(func() { s.parts.feed.Run(background) })
	}
	if !s.opts.Unsafe {
		work.Go(func() { s.monitor.Run(background) })
	}
	if s.hasRole(RoleWorker) {
		if err := s.server.Start(); err != nil {
			return err
		}
		work.Go(func() { s.recorder.Run(background) })
		work.Go(func() { s.sweeper.Run(background) })
		work.Go(func() { s.comparer.Run(background) })
		if s.auditor != nil {
			work.Go(func() { s.auditor.Run(background) })
		}
		work.Go(func() { s.jobs.Run(background) })
		work.Go(func() { s.finder.Run(background) })
		if s.scheduler != nil {
			work.Go(func() { s.scheduler.Run(background) })
		}
		for range fanoutRunners {
			work.Go(func() { s.runner.Run(background) })
		}
	}
	s.log.InfoContext(ctx, "started", "version", s.opts.Version, "environment", string(s.env), "api", s.Addr("api"), "ops", s.Addr("ops"))
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	return errors.Join(err, s.shutDownGracefully(context.WithoutCancel(ctx), stopBackground, &work))
}

// fanoutRunners is how many fan-outs run at once, without those of the queue.
const fanoutRunners = 2

func (s *Service) shutDownGracefully(ctx context.Context, stopBackground context.CancelFunc, work *sync.WaitGroup) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ShutdownTimeout)
	defer cancel()
	var errs []error
	s.parts.feed.Stop() // waiting engines are answered at once that nothing changed
	for _, l := range s.listeners {
		if l.name == "ops" { // operators can watch the shutdown
			continue
		}
		if err := l.server.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", l.name, err))
		}
	}
	if s.hasRole(RoleWorker) {
		s.server.Stop()
		if err := s.drainer.Stop(ctx); err != nil {
			errs = append(errs, err)
		}
		s.server.Shutdown()
		if err := s.parts.probes.Stop(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	stopBackground()
	for _, l := range s.listeners {
		_ = l.server.Close()
	}
	done := make(chan struct{})
	go func() {
		work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		errs = append(errs, errors.New("background work did not stop in time"))
	}
	s.log.InfoContext(ctx, "stopped", "duration_ms", time.Since(start).Milliseconds())
	return errors.Join(errs...)
}

func (s *Service) closeConnections() {
	for _, l := range s.listeners {
		_ = l.socket.Close()
	}
	if s.transport != nil {
		s.transport.Close()
	}
	if s.wire != nil {
		s.wire.Close()
	}
	if s.owned && s.rdb != nil {
		_ = s.rdb.Close()
	}
	for _, other := range []redis.UniversalClient{s.durable, s.drains} {
		if s.owned && other != nil && other != s.rdb {
			_ = other.Close()
		}
	}
}
