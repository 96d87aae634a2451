package redisconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Words for what a server answers when redis.url leads to the wrong one.
const (
	readOnlyWords = "the server is a read-only replica: redis.url must lead to the primary; use redis+sentinel:// to follow it through failovers"
	diskWords     = "Redis cannot write to its disk and takes no changes until it can: make room there, and look at its log"
	isCluster     = "the server is a node of a Cluster, but redis.url says that it stands alone: use redis+cluster://"
	isSentinel    = "the server is a sentinel, but redis.url says that it keeps data: use redis+sentinel://host:port,…/master"
	noCluster     = "redis.url says redis+cluster://, but the server is no node of a Cluster: use redis://"
)

// diskFailing begins what Redis answers to writes, and to PING, while its disk takes nothing. INFO goes on.
const diskFailing = "MISCONF"

// ConnectError is a failure to use Redis, with what it means and what to do.
type ConnectError struct {
	// Words explain the error; they hold no secret.
	Words string
	// Permanent says that waiting does not help: settings or the server must change.
	Permanent bool

	err error
}

// Error joins the words with the cause.
func (e *ConnectError) Error() string { return e.Words + ": " + e.err.Error() }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.err }

// Explain says what an error of a command means, where it is one that settings cause. Other errors
// come back as they are.
func Explain(err error) error { return explained(err) }

func explained(err error) error {
	var done *ConnectError
	if err == nil || errors.As(err, &done) {
		return err
	}
	if words, permanent := meaning(err); words != "" {
		return &ConnectError{Words: words, Permanent: permanent, err: err}
	}
	return err
}

// meaning is empty for an error that explains itself.
func meaning(err error) (words string, permanent bool) {
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var expired x509.CertificateInvalidError
	var alert tls.AlertError
	text := err.Error()
	switch {
	case redis.IsReadOnlyError(err):
		return readOnlyWords, false // a failover may be under way
	case redis.HasErrorPrefix(err, diskFailing):
		return diskWords, false
	case redis.IsPermissionError(err):
		return "the ACL user of redis lacks a right: docs/security.md lists what it needs", true
	case redis.IsAuthError(err):
		return "redis refuses the user or the password: see redis.username and redis.password", true
	case strings.Contains(text, "cluster support disabled"):
		return noCluster, true
	case redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "CROSSSLOT"):
		return isCluster, true
	case errors.As(err, &header):
		return "redis.url says TLS, but the server answers without: use redis:// or the server's TLS port", true
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		return "the certificate of redis has ended or has not begun: renew it, and look at the clocks", true
	case errors.As(err, &certificate):
		return "the certificate of redis is not trusted: see redis.tls.ca, and the host in redis.url", true
	case errors.As(err, &alert), strings.Contains(text, "remote error: tls"):
		return "redis refuses our TLS connection: see redis.tls.cert and redis.tls.key, and whether the certificate has ended", true
	default:
		return "", false
	}
}

// place notes a server that is arranged otherwise than a client for a single server expects.
func (r Report) place() Report {
	switch r.mode {
	case "sentinel":
		r.Misplaced = isSentinel
	case "cluster":
		r.Misplaced = isCluster
	}
	return r
}

// Require turns what makes a server useless into an error: it is no primary, or not arranged as
// redis.url says. Safety, which can be waived, is not asked for.
func (r Report) Require() error {
	switch {
	case r.Misplaced != "":
		return &ConnectError{Words: r.Misplaced, Permanent: true, err: errUseless}
	case r.ReadOnly:
		return &ConnectError{Words: readOnlyWords, err: errUseless}
	default:
		return nil
	}
}

var errUseless = errors.New("redis cannot be used")

// FullAt is the share of its limit from which Redis' memory counts as nearly full.
const FullAt = 0.8

// Fullness is the share of the limit that is used; 0 without a limit.
func (r Report) Fullness() float64 {
	if r.MemoryLimit <= 0 {
		return 0
	}
	return float64(r.MemoryUsed) / float64(r.MemoryLimit)
}

// Warnings are what needs attention without making Redis unfit.
func (r Report) Warnings() []Problem {
	if r.Fullness() < FullAt {
		return nil
	}
	return []Problem{{Check: CheckMemory, Words: fmt.Sprintf(
		"Redis uses %.0f %% of its maxmemory: when it is full it refuses changes; give it memory, or shorten retention.*", r.Fullness()*100)}}
}
