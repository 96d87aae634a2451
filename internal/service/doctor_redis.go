package service

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redisconn"
)

// certificateSoon is how long before its end a certificate is reported, as by the alert.
const certificateSoon = 14 * 24 * time.Hour

// earliestExpiry records when the first of the servers' certificates ends.
type earliestExpiry struct {
	mu    sync.Mutex
	first time.Time
}

func (e *earliestExpiry) addCertificate(c *x509.Certificate) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.first.IsZero() || c.NotAfter.Before(e.first) {
		e.first = c.NotAfter
	}
}

func examineCertificates(o redisconn.Options, servers *earliestExpiry, now time.Time) CheckResult {
	e := CheckResult{Check: "redis_certificates", Result: Passed}
	own, err := redisconn.ClientCertificateExpiry(o)
	if err != nil {
		e.Result, e.Detail, e.Advice = Failed, err.Error(), "Renew the client certificate: a running process reads it again by itself."
		return e
	}
	servers.mu.Lock()
	first := servers.first
	servers.mu.Unlock()
	e.Detail = "that of the server ends on " + first.UTC().Format(time.DateOnly)
	if !own.IsZero() {
		e.Detail += ", ours on " + own.UTC().Format(time.DateOnly)
	}
	switch {
	case first.Sub(now) < certificateSoon:
		e.Result, e.Advice = Doubtful, "Renew the server's certificate, on every server and sentinel."
	case !own.IsZero() && own.Sub(now) < certificateSoon:
		e.Result, e.Advice = Doubtful, "Renew the files of redis.tls.cert and redis.tls.key: a running process reads them again by itself."
	}
	return e
}

func examineRights(ctx context.Context, rdb redis.UniversalClient, prefix string) CheckResult {
	e := CheckResult{Check: "redis_rights", Result: Passed, Detail: "the user has all rights that are needed"}
	missing, err := redisconn.MissingRights(ctx, rdb, prefix)
	switch {
	case err != nil:
		e.Result, e.Detail = Failed, err.Error()
	case len(missing) > 0:
		e.Result, e.Detail = Failed, "the user lacks "+strings.Join(missing, " ")
		e.Advice = "Give them with ACL SETUSER, on every server: docs/security.md has the whole command."
	}
	return e
}

func examineSlots(ctx context.Context, rdb redis.UniversalClient) CheckResult {
	e := CheckResult{Check: "redis_slots", Result: Passed}
	served, all, err := redisconn.CountServedSlots(ctx, rdb)
	if err != nil {
		e.Result, e.Detail = Failed, err.Error()
		return e
	}
	e.Detail = fmt.Sprintf("%d of %d hash slots are served", served, all)
	if served < all {
		e.Result = Failed
		e.Advice = "Apps and tenants in the other slots are not served: see CLUSTER NODES, bring the failed primary back, or move its slots to another."
	}
	return e
}
