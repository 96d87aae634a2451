package redisconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Fault is the reason why Redis did not do what was requested, where the request is not at fault: a later repeat may succeed. It
// is a label of a metric, and logged.
type Fault string

// The closed set.
const (
	// NoFault: an answer, or an error that a repeat does not resolve.
	NoFault Fault = ""
	// FaultUnreachable: no connection, or it broke; FaultTimeout: no answer in time.
	FaultUnreachable Fault = "unreachable"
	FaultTimeout     Fault = "timeout"
	// FaultPool: no connection of the pool was free in time, or the server accepts no more.
	FaultPool Fault = "pool"
	// FaultTLS: the two sides do not trust each other, or one speaks no TLS.
	FaultTLS Fault = "tls"
	// FaultLogin: the user or the password is refused; FaultRights: the user lacks a right.
	FaultLogin  Fault = "login"
	FaultRights Fault = "rights"
	// FaultLoading: the server is still reading its data; FaultBusy: a script or a save blocks it.
	FaultLoading Fault = "loading"
	FaultBusy    Fault = "busy"
	// FaultReadOnly: a replica answered; FaultPrimary: no primary is known or reached.
	FaultReadOnly Fault = "read_only"
	FaultPrimary  Fault = "primary"
	// FaultSlots: the slot is moving, has moved, or no server serves it.
	FaultSlots Fault = "slots"
	// FaultMemory: Redis is full; FaultDisk: it cannot write to its disk.
	FaultMemory Fault = "memory"
	FaultDisk   Fault = "disk"
	// FaultReplicas: too few replicas confirmed.
	FaultReplicas Fault = "replicas"
	// FaultScripts: Redis does not know a script although it was just loaded.
	FaultScripts Fault = "scripts"
)

// Faults lists the closed set, without NoFault.
func Faults() []Fault {
	return []Fault{
		FaultUnreachable, FaultTimeout, FaultPool, FaultTLS, FaultLogin, FaultRights, FaultLoading, FaultBusy, FaultReadOnly, FaultPrimary,
		FaultSlots, FaultMemory, FaultDisk, FaultReplicas, FaultScripts,
	}
}

// listFaultPrefixes lists the beginnings of a server's errors, behind "ERR".
func listFaultPrefixes() []struct {
	begins string
	fault  Fault
} {
	return []struct {
		begins string
		fault  Fault
	}{
		{"NOAUTH", FaultLogin},
		{"WRONGPASS", FaultLogin},
		{"invalid password", FaultLogin},
		{"AUTH ", FaultLogin},
		{"DENIED", FaultLogin}, // protected mode
		{"NOPERM", FaultRights},
		{"LOADING", FaultLoading},
		{"BUSY", FaultBusy},
		{"READONLY", FaultReadOnly},
		{"MASTERDOWN", FaultPrimary},
		{"NOMASTERLINK", FaultPrimary},
		{"UNBLOCKED", FaultPrimary}, // the server became a replica meanwhile
		{"MOVED ", FaultSlots},
		{"ASK ", FaultSlots},
		{"CLUSTERDOWN", FaultSlots},
		{"TRYAGAIN", FaultSlots},
		{"OOM", FaultMemory},
		{"MISCONF", FaultDisk},
		{"NOREPLICAS", FaultReplicas},
		{"NOSCRIPT", FaultScripts},
		{"max number of clients", FaultPool},
	}
}

// ClassifyFault returns the fault in an error that a caller of a store got. No other code classifies errors.
func ClassifyFault(err error) Fault {
	if err == nil {
		return NoFault
	}
	for _, a := range listFaultPrefixes() {
		if redis.HasErrorPrefix(err, a.begins) {
			return a.fault
		}
	}
	var few *ReplicasError
	var network net.Error
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	switch text := err.Error(); {
	case errors.As(err, &few):
		return FaultReplicas
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return FaultPool
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &header), errors.As(err, &alert):
		return FaultTLS
	// The library has no values for these.
	case strings.Contains(text, "redis: all sentinels specified in configuration are unreachable"):
		return FaultPrimary
	case strings.Contains(text, "redis: cluster has no nodes"), strings.Contains(text, "redis: cannot load cluster slots"):
		return FaultSlots
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.As(err, &network) && network.Timeout():
		return FaultTimeout
	case errors.As(err, &network), errors.Is(err, net.ErrClosed), errors.Is(err, redis.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return FaultUnreachable
	default:
		return NoFault
	}
}

// FaultCounter counts the commands and pipelines that failed because of a fault.
type FaultCounter struct{ counts map[Fault]prometheus.Counter }

// NewFaultCounter registers lamplighter_redis_faults_total.
func NewFaultCounter(reg prometheus.Registerer) *FaultCounter {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lamplighter_redis_faults_total", Help: "Commands and pipelines that failed because of Redis, by reason.",
	}, []string{"fault"})
	reg.MustRegister(vec)
	h := &FaultCounter{counts: map[Fault]prometheus.Counter{}}
	for _, f := range Faults() {
		h.counts[f] = vec.WithLabelValues(string(f))
	}
	return h
}

// countFault does not count a caller that left, or a script that is loaded because Redis does not know it.
func (h *FaultCounter) countFault(err error) error {
	if c, ok := h.counts[ClassifyFault(err)]; ok && !errors.Is(err, context.Canceled) && !redis.HasErrorPrefix(err, "NOSCRIPT") {
		c.Inc()
	}
	return err
}

// DialHook changes nothing.
func (*FaultCounter) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook counts a command.
func (h *FaultCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h.countFault(next(ctx, cmd)) }
}

// ProcessPipelineHook counts a pipeline.
func (h *FaultCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return h.countFault(next(ctx, cmds)) }
}
