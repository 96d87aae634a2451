package redisconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Explanations of a server's answers if redis.url leads to the wrong server.
const (
	readOnlyText = "the server is a read-only replica: redis.url must lead to the primary; use redis+sentinel:// to follow it through failovers"
	diskText     = "Redis cannot write to its disk and takes no changes until it can: make room there, and look at its log"
	isCluster    = "the server is a node of a Cluster, but redis.url says that it stands alone: use redis+cluster://"
	isSentinel   = "the server is a sentinel, but redis.url says that it keeps data: use redis+sentinel://host:port,…/master"
	noCluster    = "redis.url says redis+cluster://, but the server is no node of a Cluster: use redis://"
	noSentinel   = "redis.url says redis+sentinel://, but the servers it names are no sentinels: name the sentinels, port 26379 as a rule, or use redis://"
	noMaster     = "the sentinels know no primary by the name that redis.url ends with: it is the name after `sentinel monitor` in their settings"
	slotsDown    = "the Cluster does not serve all of its hash slots: look at CLUSTER INFO and CLUSTER NODES, and bring back the primary that failed or give its slots to another"
)

// diskFailing is the beginning of Redis's answer to writes, and to PING, while it cannot write to its disk. INFO still works.
const diskFailing = "MISCONF"

// ConnectError is an error of using Redis, with its meaning and what to do.
type ConnectError struct {
	// Explanation explains the error; it holds no secret.
	Explanation string
	// Permanent means that waiting does not help: settings or the server must change.
	Permanent bool

	err error
}

// Error joins the explanation with the cause.
func (e *ConnectError) Error() string { return e.Explanation + ": " + e.err.Error() }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.err }

// Explain adds what an error of a command means, if settings cause it. Other errors are returned unchanged.
func Explain(err error) error { return explainError(err) }

func explainError(err error) error {
	var done *ConnectError
	if err == nil || errors.As(err, &done) {
		return err
	}
	if words, permanent := diagnoseError(err, time.Now()); words != "" {
		return &ConnectError{Explanation: words, Permanent: permanent, err: err}
	}
	return err
}

// diagnoseError returns "" for an error that needs no explanation.
func diagnoseError(err error, now time.Time) (words string, permanent bool) {
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var expired x509.CertificateInvalidError
	var alert tls.AlertError
	text := err.Error()
	switch {
	case redis.IsReadOnlyError(err):
		return readOnlyText, false // a failover may be in progress
	case redis.HasErrorPrefix(err, diskFailing):
		return diskText, false
	case redis.IsPermissionError(err):
		return "the ACL user of redis lacks a right: docs/security.md lists what it needs", true
	case redis.IsAuthError(err):
		return "redis refuses the user or the password: see redis.username and redis.password", true
	case strings.Contains(text, "cluster support disabled"), strings.Contains(text, "unknown command 'cluster'"):
		return noCluster, true
	case redis.HasErrorPrefix(err, "CLUSTERDOWN"):
		return slotsDown, false
	case redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "CROSSSLOT"):
		return isCluster, true
	case errors.As(err, &header):
		return "redis.url says TLS, but the server answers without: use redis:// or the server's TLS port", true
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		errors.As(err, &certificate)
		return describeInvalidCertificate(expired.Cert, certificate, now), true
	case errors.As(err, &certificate):
		return "the certificate of redis is not trusted: see redis.tls.ca, and the host in redis.url", true
	case errors.As(err, &alert), strings.Contains(text, "remote error: tls"):
		return "redis refuses our TLS connection: see redis.tls.cert and redis.tls.key, and whether the certificate has expired", true
	case strings.Contains(text, "all sentinels specified in configuration are unreachable"):
		return diagnoseSentinels(err)
	default:
		return "", false
	}
}

// diagnoseSentinels explains answers of sentinels that name no primary. If none answered, the error needs no explanation. It is
// permanent if all that answered say the same; otherwise another sentinel may still find its primary.
func diagnoseSentinels(err error) (words string, permanent bool) {
	permanent = true
	for _, one := range unwrapJoined(err) {
		var said redis.Error
		if !errors.As(one, &said) { // this sentinel did not answer
			continue
		}
		next := ""
		switch {
		case strings.Contains(said.Error(), "unknown command"):
			next = noSentinel
		case errors.Is(one, redis.Nil):
			next = noMaster
		}
		permanent = permanent && next != "" && (words == "" || words == next)
		if words == "" {
			words = next
		}
	}
	return words, permanent && words != ""
}

// unwrapJoined returns the errors that one joins, or the error alone.
func unwrapJoined(err error) []error {
	for at := err; at != nil; at = errors.Unwrap(at) {
		if joined, ok := at.(interface{ Unwrap() []error }); ok {
			return joined.Unwrap()
		}
	}
	return []error{err}
}

// nameMax bounds how much of a certificate's name is repeated.
const nameMax = 100

// describeInvalidCertificate says which certificate is not valid now, and since or until when. The server's own certificate is
// the first of those that it sent.
func describeInvalidCertificate(c *x509.Certificate, sent *tls.CertificateVerificationError, now time.Time) string {
	whose := "the certificate of redis"
	if sent != nil && len(sent.UnverifiedCertificates) > 0 && !sent.UnverifiedCertificates[0].Equal(c) {
		whose = "the authority's certificate behind that of redis"
	}
	name := c.Subject.String()
	name = fmt.Sprintf("%q", name[:min(len(name), nameMax)])
	if now.Before(c.NotBefore) {
		return whose + ", " + name + ", begins on " + c.NotBefore.UTC().Format(time.RFC3339) + ": look at this machine's clock, or wait"
	}
	return whose + ", " + name + ", ended on " + c.NotAfter.UTC().Format(time.RFC3339) + ": renew it on the server"
}

// noteMisplacement records that a server is not the single server that the client expects.
func (r Report) noteMisplacement() Report {
	switch r.mode {
	case "sentinel":
		r.Misplaced = isSentinel
	case "cluster":
		r.Misplaced = isCluster
	}
	return r
}

// CheckUsable returns an error if the server cannot be used: it is no primary, or not arranged as redis.url says. It does not
// check safety, which can be waived.
func (r Report) CheckUsable() error {
	switch {
	case r.Misplaced != "":
		return &ConnectError{Explanation: r.Misplaced, Permanent: true, err: errUseless}
	case r.ReadOnly:
		return &ConnectError{Explanation: readOnlyText, err: errUseless}
	default:
		return nil
	}
}

var errUseless = errors.New("redis cannot be used")

// FullAt is the share of its limit from which Redis's memory counts as nearly full.
const FullAt = 0.8

// Fullness returns the used share of the limit; 0 without a limit.
func (r Report) Fullness() float64 {
	if r.MemoryLimit <= 0 {
		return 0
	}
	return float64(r.MemoryUsed) / float64(r.MemoryLimit)
}

// Warnings returns problems that do not make Redis unfit.
func (r Report) Warnings() []Problem {
	if r.Fullness() < FullAt {
		return nil
	}
	return []Problem{{Check: CheckMemory, Explanation: fmt.Sprintf(
		"Redis uses %.0f %% of its maxmemory: from 90 %% on partners' writes are refused, and when it is full all changes; give it memory, or shorten retention.*", r.Fullness()*100)}}
}
