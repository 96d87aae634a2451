package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/lamplighter/lamplighter/internal/plainjson"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Statuses reads the status that a pull answers.
type Statuses interface {
	// Status returns registry.ErrNotFound for a tenant that was never reported.
	Status(ctx context.Context, id tenant.ID) (tenant.Status, error)
}

// validUntilFormat is UTC with seven fraction digits, as the platform writes it.
const validUntilFormat = "2006-01-02T15:04:05.0000000Z"

// retrySpread is over how many seconds the Retry-After of refused pulls is spread, from 1 on.
const retrySpread = 4

// validUntil is the end of the cell of length d that now lies in. All replicas cut time into the
// same cells, so their answers about an unchanged tenant are the same bytes.
func validUntil(now time.Time, d time.Duration) time.Time {
	n := now.UnixNano()
	return time.Unix(0, n-n%int64(d)+int64(d)).UTC()
}

// stateBytes is about the largest length of an answer.
const stateBytes = 384

// encodePullAnswer is the pull's answer: always these six members, with the platform's names. It does not use encoding/json,
// because the pull is the most frequent operation.
func encodePullAnswer(st tenant.Status, now time.Time, validFor time.Duration) []byte {
	b := make([]byte, 0, stateBytes)
	b = plainjson.AppendString(append(b, `{"ContextIdentifier":`...), string(st.Tenant))
	b = appendAddress(append(b, `,"Endpoint":`...), st, "")
	b = plainjson.AppendString(append(b, `,"State":`...), st.State.String())
	b = strconv.AppendBool(append(b, `,"IsRunning":`...), st.State.IsRunning())
	b = validUntil(now, validFor).AppendFormat(append(b, `,"ValidUntil":"`...), validUntilFormat)
	b = appendAddress(append(b, `","Api":`...), st, "/api")
	return append(b, "}\n"...)
}

// appendAddress appends the URL of a tenant, null while it is not known.
func appendAddress(b []byte, st tenant.Status, path string) []byte {
	if st.PublicEndpoint == "" {
		return append(b, "null"...)
	}
	return plainjson.AppendString(b, "https://"+st.PublicEndpoint+"/"+string(st.Tenant)+path)
}

func (a *API) getState(c *call) error {
	c.w.Header().Set("Cache-Control", "no-cache")
	now := a.Now()
	id, err := tenant.ParseID(c.r.PathValue("tenant"))
	if err != nil { // no such tenant can exist; the answer does not repeat the id
		return a.answerUnknownTenant(c, "", now)
	}
	c.tenant = id
	st, err := a.readStatus(c.ctx(), id)
	if errors.Is(err, registry.ErrNotFound) {
		return a.answerUnknownTenant(c, id, now)
	}
	if err != nil {
		return err
	}
	st.Tenant = id
	return c.writeCacheable(encodePullAnswer(st, now, a.ValidFor))
}

// readStatus waits for the semaphore of pulls and reads a tenant's status. The answer is written after the semaphore is
// released, so a slow client does not delay others.
func (a *API) readStatus(ctx context.Context, id tenant.ID) (tenant.Status, error) {
	switch err := a.pulls.acquire(ctx); {
	case errors.Is(err, errTooManyWaiting), errors.Is(err, errWaitTooLong):
		a.metrics.shed.Inc()
		return tenant.Status{}, a.overloadedProblem()
	case err != nil:
		return tenant.Status{}, fmt.Errorf("wait to read the status: %w", err)
	}
	defer a.pulls.release()
	return a.Statuses.Status(ctx, id)
}

// overloadedProblem refuses a pull, with a Retry-After that differs between callers.
func (a *API) overloadedProblem() *Problem {
	p := newProblem(http.StatusServiceUnavailable, "overloaded", "Too many pulls at once",
		"Use the last answer that you got about this tenant, and ask again after the time in Retry-After.")
	p.retryAfter = time.Second
	var b [1]byte
	if _, err := io.ReadFull(a.Random, b[:]); err == nil {
		p.retryAfter += time.Duration(b[0]%retrySpread) * time.Second
	}
	return p
}

// answerUnknownTenant answers about a tenant that was never reported. Such answers are limited for each address. Answers
// about known tenants are not, because callers may share an address.
func (a *API) answerUnknownTenant(c *call, id tenant.ID, now time.Time) error {
	if wait, ok := a.unknown.Take(callerNetwork(c.r), now); !ok {
		return tooManyRequestsProblem(budgetUnknownTenants, "Too many requests about unknown tenants came from this address.", wait)
	}
	if id != "" {
		if err := confirmAbsence(c.ctx(), a.Store); err != nil {
			return err
		}
	}
	sendBody(c.w, http.StatusNotFound, typeJSON, encodePullAnswer(tenant.Status{Tenant: id}, now, a.ValidFor))
	return nil
}

// revalidated is the Cache-Control of answers that only their caller may cache, and must revalidate each time.
const revalidated = "private, no-cache"

// writeCacheable answers with a JSON body under its own ETag, or 304 when the caller has it.
func (c *call) writeCacheable(body []byte) error { return c.writeCacheableAs(typeJSON, body) }

func (c *call) writeCacheableAs(contentType string, body []byte) error {
	tag := contentETag(body)
	h := c.w.Header()
	h.Set("ETag", tag)
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", revalidated)
	}
	if matchesETag(c.r.Header.Values("If-None-Match"), tag, weak) {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	sendBody(c.w, http.StatusOK, contentType, body)
	return nil
}

// contentETag is the strong ETag of a text.
func contentETag(text []byte) string {
	sum := sha256.Sum256(text)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// newKeyDocumentHandler serves a document with which receivers find the signing keys. It may be cached for a shorter time
// than a new key is published before it signs.
func (a *API) newKeyDocumentHandler(document func() []byte) handler {
	return func(c *call) error {
		c.w.Header().Set("Cache-Control", "public, max-age=300")
		return c.writeCacheable(document())
	}
}
