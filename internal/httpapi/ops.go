package httpapi

import (
	"context"
	"net/http"
	"net/http/pprof"
	"time"
)

// Check is one condition for the service's readiness.
type Check struct {
	Name string
	// Err says why it does not hold, nil when it does. It is shown to operators and MUST hold no secret.
	Err error
	// Warning says what needs attention although it holds, for operators as well; empty for none.
	Warning string
}

// OpsOptions are the handlers and checks of the operators' endpoints.
type OpsOptions struct {
	// Metrics serves /metrics.
	Metrics http.Handler
	// Readiness runs the checks of /readyz; it MUST return when ctx ends.
	Readiness func(ctx context.Context) []Check
	// Pprof serves /debug/pprof/.
	Pprof bool
}

// readyWithin bounds the checks of /readyz.
const readyWithin = 3 * time.Second

// OpsHandler serves the operators' endpoints, without authentication: they belong on a private listener.
func (a *API) OpsHandler(o OpsOptions) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f http.HandlerFunc) {
		mux.HandleFunc("GET "+pattern, f)
		mux.Handle(pattern, a.newProblemHandler(func() *Problem {
			p := newProblem(http.StatusMethodNotAllowed, "method-not-allowed", "The method is not allowed here", "Use GET.")
			p.allow = "GET, HEAD"
			return p
		}))
	}
	handle("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		sendBody(w, http.StatusOK, typeJSON, []byte(`{"status":"ok"}`+"\n"))
	})
	if o.Metrics != nil {
		handle("/metrics", o.Metrics.ServeHTTP)
	}
	if o.Readiness != nil {
		handle("/readyz", newReadinessHandler(o.Readiness))
	}
	if o.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	mux.Handle("/", a.newProblemHandler(func() *Problem { return notFoundProblem("resource") }))
	return mux
}

type checkAnswer struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Detail  string `json:"detail,omitempty"`
	Warning string `json:"warning,omitempty"`
}

func newReadinessHandler(checks func(context.Context) []Check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyWithin)
		defer cancel()
		answer := struct {
			Ready  bool          `json:"ready"`
			Checks []checkAnswer `json:"checks"`
		}{Ready: true, Checks: []checkAnswer{}}
		for _, c := range checks(ctx) {
			one := checkAnswer{Name: c.Name, OK: c.Err == nil, Warning: c.Warning}
			if c.Err != nil {
				answer.Ready, one.Detail = false, c.Err.Error()
			}
			answer.Checks = append(answer.Checks, one)
		}
		status := http.StatusOK
		if !answer.Ready {
			status = http.StatusServiceUnavailable
		}
		body, err := encodeJSON(answer)
		if err != nil { // strings and booleans always encode
			status, body = http.StatusInternalServerError, nil
		}
		sendBody(w, status, typeJSON, body)
	}
}
