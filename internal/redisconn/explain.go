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

// Words for what a server answers when redis.url leads to the wrong one.
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

// diskFailing begins what Redis answers to writes, and to PING, while its disk takes nothing. INFO goes on.
const diskFailing = "MISCONF"

// ConnectError is a failure to use Redis, with what it means and what to do.
type ConnectError struct {
	// Explanation explain the error; they hold no secret.
	Explanation string
	// Permanent says that waiting does not help: settings or the server must change.
	Permanent bool

	err error
}

// Error joins the words with the cause.
func (e *ConnectError) Error() string { return e.Explanation + ": " + e.err.Error() }

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.err }

// Explain says what an error of a command means, where it is one that settings cause. Other errors
// come back as they are.
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

// diagnoseError is empty for an error that explains itself.
func diagnoseError(err error, now time.Time) (words string, permanent bool) {
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var expired x509.CertificateInvalidError
	var alert tls.AlertError
	text := err.Error()
	switch {
	case redis.IsReadOnlyError(err):
		return readOnlyText, false // a failover may be under way
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
		return "redis refuses our TLS connection: see redis.tls.cert and redis.tls.key, and whether the certificate has ended", true
	case strings.Contains(text, "all sentinels specified in configuration are unreachable"):
		return diagnoseSentinels(err)
	default:
		return "", false
	}
}

// diagnoseSentinels tells of sentinels that answered, but not with a primary. That none answered explains itself.
// It is permanent where all that answered say the same: another one may yet find its primary.
func diagnoseSentinels(err error) (words string, permanent bool) {
	permanent = true
	for _, one := range unwrapJoined(err) {
		var said redis.Error
		if !errors.As(one, &said) { // it did not answer
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

// unwrapJoined are the errors that one joins, or it alone.
func unwrapJoined(err error) []error {
	for at := err; at != nil; at = errors.Unwrap(at) {
		if joined, ok := at.(interface{ Unwrap() []error }); ok {
			return joined.Unwrap()
		}
	}
	return []error{err}
}

// nameMax bounds what is repeated of a certificate's name.
const nameMax = 100

// describeInvalidCertificate says whose certificate is not valid now, and since or until when. The server's own comes first of
// those that it sent.
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

// noteMisplacement notes a server that is arranged otherwise than a client for a single server expects.
func (r Report) noteMisplacement() Report {
	switch r.mode {
	case "sentinel":
		r.Misplaced = isSentinel
	case "cluster":
		r.Misplaced = isCluster
	}
	return r
}

// CheckUsable turns what makes a server useless into an error: it is no primary, or not arranged as
// redis.url says. Safety, which can be waived, is not asked for.
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
	return []Problem{{Check: CheckMemory, Explanation: fmt.Sprintf(
		"Redis uses %.0f %% of its maxmemory: from 90 %% on partners' writes are refused, and when it is full all changes; give it memory, or shorten retention.*", r.Fullness()*100)}}
}
