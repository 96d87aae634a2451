package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Handlers are called for the tasks.
type Handlers struct {
	Fanout      func(ctx context.Context, ts []tenant.ID) error
	Drain       func(ctx context.Context, app partner.ClientID, generation int64) error
	ForwardMail func(ctx context.Context, app partner.ClientID, mail string) error
	SendMail    func(ctx context.Context, recipient string) error
	Resync      func(ctx context.Context, app partner.ClientID) error
	Probe       func(ctx context.Context, app partner.ClientID, k partner.EndpointKind) error
}

// ServerOptions set how tasks are taken.
type ServerOptions struct {
	// Namespace is made by FormatNamespace.
	Namespace string
	// Poll is how often an idle queue is asked for tasks. It bounds the latency of wake-ups that
	// come from another process.
	Poll time.Duration
	// ShutdownTimeout is how long Shutdown waits for handlers after Stop. Handlers that still run then
	// are abandoned, not stopped, so drainers need a stop signal of their own.
	ShutdownTimeout time.Duration
	// Drainers and Probers bound the drains and probes whose handlers run at once. A handler of either
	// returns as soon as its work only waits for an endpoint.
	Drainers, Probers int
	Log               *slog.Logger
}

// Workers of the other queues.
const (
	fanoutWorkers = 16
	mailWorkers   = 4
)

// Server runs the handlers. Each queue has its own asynq server, so that none waits for the workers of
// another.
type Server struct {
	servers []*asynq.Server
	mux     *asynq.ServeMux
}

// NewServer returns a Server on a shared Redis client, which it does not close.
func NewServer(rdb redis.UniversalClient, h Handlers, opts ServerOptions) *Server {
	s := &Server{mux: asynq.NewServeMux()}
	registerHandler(s.mux, Fanout, opts.Log, func(ctx context.Context, p fanoutPayload) error { return h.Fanout(ctx, p.Tenants) })
	registerHandler(s.mux, Drain, opts.Log, func(ctx context.Context, p drainPayload) error { return h.Drain(ctx, p.App, p.Generation) })
	registerHandler(s.mux, ForwardMail, opts.Log, func(ctx context.Context, p forwardMailPayload) error { return h.ForwardMail(ctx, p.App, p.Mail) })
	registerHandler(s.mux, SendMail, opts.Log, func(ctx context.Context, p sendMailPayload) error { return h.SendMail(ctx, p.Recipient) })
	registerHandler(s.mux, Resync, opts.Log, func(ctx context.Context, p resyncPayload) error { return h.Resync(ctx, p.App) })
	registerHandler(s.mux, Probe, opts.Log, func(ctx context.Context, p probePayload) error { return h.Probe(ctx, p.App, p.Endpoint) })
	for _, q := range []struct {
		kind    Kind
		workers int
		poll    time.Duration
	}{
		{Drain, opts.Drainers, opts.Poll},
		{Fanout, fanoutWorkers, opts.Poll},
		{ForwardMail, mailWorkers, max(opts.Poll, time.Second)},
		{Probe, max(opts.Probers, 1), max(opts.Poll, time.Second)},
	} {
		s.servers = append(s.servers, asynq.NewServerFromRedisClient(rdb, asynq.Config{
			Concurrency:              q.workers,
			Queues:                   map[string]int{AsynqName(opts.Namespace, q.kind): 1},
			TaskCheckInterval:        q.poll,
			DelayedTaskCheckInterval: time.Second,
			ShutdownTimeout:          opts.ShutdownTimeout,
			RetryDelayFunc:           func(n int, _ error, _ *asynq.Task) time.Duration { return time.Duration(n+1) * time.Second },
			Logger:                   logAdapter{log: opts.Log},
			LogLevel:                 asynq.WarnLevel,
		}))
	}
	return s
}

// Start begins to take tasks.
func (s *Server) Start() error {
	for i, srv := range s.servers {
		if err := srv.Start(s.mux); err != nil {
			for _, started := range s.servers[:i] {
				started.Shutdown()
			}
			return fmt.Errorf("start queue server: %w", err)
		}
	}
	return nil
}

// Stop ends the taking of tasks; running handlers continue.
func (s *Server) Stop() {
	for _, srv := range s.servers {
		srv.Stop()
	}
}

// Shutdown waits for the handlers, at most ShutdownTimeout for each queue, all at once.
func (s *Server) Shutdown() {
	done := make(chan struct{})
	for _, srv := range s.servers {
		go func() {
			srv.Shutdown()
			done <- struct{}{}
		}()
	}
	for range s.servers {
		<-done
	}
}

func registerHandler[T payload](mux *asynq.ServeMux, k Kind, log *slog.Logger, f func(context.Context, T) error) {
	mux.HandleFunc(string(k), func(ctx context.Context, task *asynq.Task) error {
		p, err := decodePayload[T](task.Payload())
		if err != nil {
			log.WarnContext(ctx, "queue task dropped", "queue", string(k), "err", err)
			return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
		}
		if err := f(ctx, p); err != nil {
			if !errors.Is(err, context.Canceled) {
				log.WarnContext(ctx, "queue task failed", "queue", string(k), "err", err)
			}
			return err
		}
		return nil
	})
}

// logAdapter hands asynq's own messages to slog; asynq has no context to pass.
type logAdapter struct{ log *slog.Logger }

const queueMessage = "queue library reported"

// Debug implements asynq.Logger, as do the others.
func (l logAdapter) Debug(args ...any) { l.logArgs(l.log.Debug, args) }

// Info implements asynq.Logger.
func (l logAdapter) Info(args ...any) { l.logArgs(l.log.Info, args) }

// Warn implements asynq.Logger.
func (l logAdapter) Warn(args ...any) { l.logArgs(l.log.Warn, args) }

// Error implements asynq.Logger.
func (l logAdapter) Error(args ...any) { l.logArgs(l.log.Error, args) }

// Fatal implements asynq.Logger. An error that asynq calls fatal ends its server, not this process.
func (l logAdapter) Fatal(args ...any) { l.logArgs(l.log.Error, args) }

func (l logAdapter) logArgs(log func(string, ...any), args []any) {
	log(queueMessage, "err", fmt.Sprint(args...))
}
