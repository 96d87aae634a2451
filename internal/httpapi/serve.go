package httpapi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/ratelimit"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/storewatch"
)

// newRouteHandler routes requests to the given operations. A wrong method is answered with 405 and Allow, an unknown path
// with 404, each as a problem.
func (a *API) newRouteHandler(routes []route) http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range routes {
		mux.Handle(r.method+" "+r.pattern, a.newOperationHandler(r))
		methods[r.pattern] = append(methods[r.pattern], r.method)
		if r.method == http.MethodGet {
			methods[r.pattern] = append(methods[r.pattern], http.MethodHead)
		}
	}
	for pattern, allowed := range methods {
		slices.Sort(allowed)
		mux.Handle(pattern, a.newProblemHandler(func() *Problem {
			p := newProblem(http.StatusMethodNotAllowed, "method-not-allowed", "The method is not allowed here", "The header Allow lists those that are.")
			p.allow = strings.Join(allowed, ", ")
			return p
		}))
	}
	nowhere := a.newProblemHandler(func() *Problem { return notFoundProblem("resource") })
	mux.Handle("/", nowhere)
	used := map[string]bool{}
	for _, r := range routes {
		used[r.method] = true
	}
	return closeAmbiguousConnections(a.allowOrigins(used, a.limitProxiedCallers(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The mux would redirect such paths, which clients of an API do not use on purpose.
		if p := r.URL.Path; p == "" || p[0] != '/' || path.Clean(p) != p {
			nowhere.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))))
}

// newProblemHandler answers requests for which there is no operation.
func (a *API) newProblemHandler(p func() *Problem) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.rejectRequest(w, r, p()) })
}

func (a *API) rejectRequest(w http.ResponseWriter, r *http.Request, answer *Problem) {
	start := time.Now()
	answer.RequestID = a.requestID(r)
	w.Header().Set("X-Request-Id", answer.RequestID)
	answer.write(w)
	a.metrics.observeRequest(unmatched, otherMethod, answer.Status, time.Since(start))
	a.metrics.countRefusal(answer, 0)
}

// closeAmbiguousConnections closes the connection after a request whose framing is ambiguous (RFC 9112 section 6.1), to
// prevent request smuggling. net/http silently drops Content-Length when Transfer-Encoding is set, and Transfer-Encoding in
// HTTP/1.0, so every such request counts. A client that sends lines in chunks needs a new connection for each body.
func closeAmbiguousConnections(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// newOperationHandler handles the requests of one operation: identity, permission, body type, handler, problem, log and
// metrics. It logs and counts each request, even after a panic.
func (a *API) newOperationHandler(rt route) http.Handler {
	counts := a.metrics.seriesFor(rt)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &statusRecorder{ResponseWriter: w}
		c := &call{w: rec, r: r, id: a.requestID(r), cursors: a.Cursors, parsing: a.parsing}
		rec.Header().Set("X-Request-Id", c.id)
		var err error
		defer func() {
			v := recover()
			aborted := v == http.ErrAbortHandler //nolint:errorlint // net/http compares it so
			if v != nil && !aborted {
				a.metrics.panics.Inc()
				err = &panicError{value: v}
				a.answerError(c, rec, err)
			}
			took := time.Since(start)
			counts.observeRequest(rec.statusCode(), took)
			a.logRequest(r.Context(), c, rec, rt, err, took)
			if aborted || rec.broken && (v != nil || errors.Is(err, errCutShort)) {
				panic(http.ErrAbortHandler)
			}
		}()
		if err = a.checkAndRun(c, rt); err != nil {
			a.answerError(c, rec, err)
		}
	})
}

func (a *API) checkAndRun(c *call, rt route) error {
	if rt.body != linesBody && rt.body != jsonOrLines && rt.body != noBodyLong {
		ctx, cancel := context.WithTimeout(c.r.Context(), requestWithin)
		defer cancel()
		c.r = c.r.WithContext(ctx)
	}
	if err := a.checkStoreUsable(c, rt); err != nil {
		return err
	}
	if _, err := url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return invalidProblem(FieldError{Detail: "the query cannot be read: separate parameters by &, and write other characters as %XX"})
	}
	if rt.isPublic() && c.r.ContentLength != 0 {
		connFromContext(c.ctx()).markSlow() // a public operation does not read the token
	}
	if !rt.isPublic() {
		leave, err := a.admitCaller(c, rt)
		if err != nil {
			return err
		}
		defer leave()
		if err := a.checkPartnerWrite(c, rt); err != nil {
			return err
		}
	}
	if rt.method != http.MethodGet && !rt.isConditional() && (len(c.r.Header.Values("If-Match")) > 0 || len(c.r.Header.Values("If-None-Match")) > 0) {
		return noETagProblem()
	}
	if err := checkMediaType(c.r, rt.body); err != nil {
		return err
	}
	if rt.runsOncePerKey() {
		return a.runIdempotent(c, rt)
	}
	return rt.handle(c)
}

// admitCaller identifies the caller, and reserves the request's share of the limits until leave is called.
func (a *API) admitCaller(c *call, rt route) (leave func(), err error) {
	who, err := a.auth.identifyCaller(c.r, a.Now())
	if errors.Is(err, storewatch.ErrChanged) && rt.operation == acceptStoreOperation {
		return nil, unauthorizedProblem(realm+`, error="invalid_token"`, "The changed store does not know the token. It knows its own, and the bootstrap token.")
	}
	if err != nil {
		return nil, err
	}
	c.role = who.role
	c.factor = a.factors.roleFactor(c.ctx(), who.role, a.Now())
	if wait, ok := a.requestLimiter(who.role).TakeMany(who.hash, 1, c.factor, a.Now()); !ok {
		return nil, tooManyRequestsProblem(budgetRequests, "This token sends requests too often.", wait)
	}
	if err := c.authorizeCaller(who, rt); err != nil {
		return nil, err
	}
	connFromContext(c.ctx()).markTrusted()
	switch {
	case rt.isLong(c.r):
		if !a.long.tryAcquire(who.hash) {
			return nil, tooManyRequestsProblem(budgetLong, "This token has too many bodies of lines or long waits open, or all tokens together have.", retryWait)
		}
		return func() { a.long.release(who.hash) }, nil
	case who.role.Kind == Partner:
		leave, err := a.atOnce.acquire(c.ctx(), who.hash, c.factor)
		if errors.Is(err, errTooManyWaiting) || errors.Is(err, errWaitTooLong) {
			return nil, tooManyRequestsProblem(budgetAtOnce, fmt.Sprintf("This token has %d requests under way.", partnerAtOnce*c.factor), time.Second)
		}
		if err != nil {
			return nil, fmt.Errorf("wait for the token's other requests: %w", err)
		}
		return leave, nil
	default:
		return func() {}, nil
	}
}

// isLong reports whether a request has no time limit.
func (r route) isLong(req *http.Request) bool {
	switch r.body {
	case linesBody:
		return true
	case jsonOrLines:
		return mediaType(req) == typeLines
	case noBodyLong:
		return true
	default:
		return false
	}
}

// limitProxiedCallers sets the address of a request's caller. It bounds the requests at once of one address behind a
// trusted proxy, where many callers share the proxy's connections.
func (a *API) limitProxiedCallers(next http.Handler) http.Handler {
	if len(a.TrustedProxies) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		forwarded := a.withForwardedAddr(r)
		if forwarded == r {
			next.ServeHTTP(w, r)
			return
		}
		caller := callerNetwork(forwarded)
		if !a.callers.tryAcquire(caller) {
			a.rejectRequest(w, forwarded, tooManyRequestsProblem(budgetCaller, "Too many requests of this address are under way.", time.Second))
			return
		}
		defer a.callers.release(caller)
		next.ServeHTTP(w, forwarded)
	})
}

// requestLimiter bounds the requests of a token with the role.
func (a *API) requestLimiter(role Role) *ratelimit.Limiter {
	if role.Kind == Partner {
		return a.partners
	}
	return a.others
}

// checkPartnerWrite bounds the rate of a partner's writes, and refuses them when the store is nearly full.
func (a *API) checkPartnerWrite(c *call, rt route) error {
	if c.role.Kind != Partner || rt.method == http.MethodGet {
		return nil
	}
	if a.StoreFull != nil {
		if percent, full := a.StoreFull(); full {
			return storeFullProblem(percent)
		}
	}
	if !rt.writesSettings() {
		return nil
	}
	if wait, ok := a.settings.TakeMany(string(c.role.App), 1, c.factor, a.Now()); !ok {
		return tooManyRequestsProblem(budgetSettings, "An app's partner may write its settings "+describeRate(settingBurst, settingInterval, c.factor)+". The next write is accepted after the time in Retry-After.", wait)
	}
	return nil
}

// authorizeCaller checks that the caller's role may call the operation.
func (c *call) authorizeCaller(who identity, rt route) error {
	c.token = who.hash
	c.actor = registry.Actor{Name: who.token.Name, Role: who.token.Role, RequestID: c.id}
	if !rt.may.has(c.role.Kind) {
		return forbiddenProblem("Its role is " + c.role.Kind.String() + ".")
	}
	if c.role.Kind == Partner && rt.isPerApp() && c.r.PathValue("client_id") != string(c.role.App) {
		return forbiddenProblem("It is a partner's token for another app.")
	}
	return nil
}

// errCutShort is the error of an answer that began and is not complete. Its connection is closed, so that the answer does
// not look complete.
var errCutShort = errors.New("the answer broke off")

// answerError sends the error's problem, unless the answer has begun.
func (a *API) answerError(c *call, rec *statusRecorder, err error) {
	if rec.status != 0 {
		rec.broken = true
		return
	}
	p, _ := problemFromError(err, a.StoreFault)
	p.RequestID = c.id
	p.write(rec)
	a.metrics.countRefusal(p, c.role.Kind)
}

// logRequest writes the request's one log line, except for pulls, which are too frequent. ctx is the connection's: when it
// has ended, the caller disconnected, and the error is not logged as one.
func (a *API) logRequest(ctx context.Context, c *call, rec *statusRecorder, rt route, err error, took time.Duration) {
	level := slog.LevelInfo
	if rt.isPublic() {
		level = slog.LevelDebug
	}
	if err != nil && ctx.Err() == nil {
		if _, unexpected := problemFromError(err, a.StoreFault); unexpected {
			level = slog.LevelError
		}
	}
	if a.Log.Enabled(ctx, level) {
		facts := c.logAttrs(rec, rt, err, took)
		if err != nil && level == slog.LevelError && a.StoreFault != nil && a.StoreFault(err) != "" {
			facts = append(facts, slog.String("store", a.StoreFault(err)))
		}
		a.Log.LogAttrs(ctx, level, "request handled", facts...)
	}
}

// logAttrs are the attributes of a request's log line.
func (c *call) logAttrs(rec *statusRecorder, rt route, err error, took time.Duration) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("request_id", c.id), slog.String("operation", rt.operation), slog.String("method", methodLabel(c.r.Method)),
		slog.String("route", rt.pattern), slog.Int("status", rec.statusCode()), slog.Int64("duration_ms", took.Milliseconds()),
		slog.String("remote", c.r.RemoteAddr),
	}
	for _, f := range []struct{ key, value string }{
		{"actor", c.actor.Name},
		{"role", c.actor.Role},
		{"app", string(c.app)},
		{"tenant", string(c.tenant)},
		{"endpoint", c.endpoint},
		{"change_id", c.change},
	} {
		if f.value != "" {
			attrs = append(attrs, slog.String(f.key, f.value))
		}
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	return attrs
}

// panicError is a handler's panic as an error, for the log.
type panicError struct{ value any }

func (e *panicError) Error() string {
	if err, ok := e.value.(error); ok {
		return "panic: " + err.Error()
	}
	if s, ok := e.value.(string); ok {
		return "panic: " + s
	}
	return "panic"
}

// Unwrap returns the panic's value if it is an error.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// statusRecorder records the status of an answer.
type statusRecorder struct {
	http.ResponseWriter
	status int
	// broken is true when an error came after the answer had begun.
	broken bool
}

// WriteHeader remembers the first status.
func (w *statusRecorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write is 200 when no status was written.
func (w *statusRecorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusRecorder) statusCode() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

const (
	maxRequestID   = 64
	requestIDBytes = 12
)

// requestID returns the caller's X-Request-Id if it is short and has no unsafe characters; else it makes one.
func (a *API) requestID(r *http.Request) string {
	if given := r.Header.Get("X-Request-Id"); given != "" && len(given) <= maxRequestID && !strings.ContainsFunc(given, isUnsafeRune) {
		return given
	}
	id, err := a.randomHex(requestIDBytes)
	if err != nil {
		return strconv.FormatInt(a.Now().UnixNano(), 36)
	}
	return id
}

func isUnsafeRune(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
}

func (a *API) randomHex(n int) (string, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(a.Random, b); err != nil {
		return "", errors.New("read randomness")
	}
	return hex.EncodeToString(b), nil
}
