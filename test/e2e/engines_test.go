package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// soapService answers a POST as any SOAP 1.1 service may: with a Fault.
func soapService(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring>no</faultstring></s:Fault></s:Body></s:Envelope>`)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/ErpConnectorWS.svc"
}

// config is an answer of the configuration feed.
type config struct {
	Revision string `json:"revision"`
	Complete bool   `json:"complete"`
	Apps     []struct {
		ClientID  string `json:"client_id"`
		Endpoints map[string]struct {
			Enabled bool   `json:"enabled"`
			URL     string `json:"url"`
		} `json:"endpoints"`
	} `json:"apps"`
}

// on reports what the answer says of an app's ERP sync.
func (c config) on(t *testing.T, app string) (bool, string) {
	t.Helper()
	for _, a := range c.Apps {
		if a.ClientID == app {
			return a.Endpoints["erp_sync"].Enabled, a.Endpoints["erp_sync"].URL
		}
	}
	t.Fatalf("the feed does not mention %s: %+v", app, c)
	return false, ""
}

// heardAt is what an engine heard, and when.
type heardAt struct {
	config

	at  time.Time
	err error
}

// await has an engine wait at a replica for something newer than a revision.
func (s *stack) await(ctx context.Context, api, revision string) <-chan heardAt {
	out := make(chan heardAt, 1)
	go func() {
		var h heardAt
		defer func() { out <- h }()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+api+"/v1/config?after="+revision+"&wait=60s", nil)
		if err != nil {
			h.err = err
			return
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		resp, err := platform.Do(req)
		if err != nil {
			h.err = err
			return
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		h.at = time.Now()
		if h.err = err; err == nil && resp.StatusCode == http.StatusOK {
			h.err = json.Unmarshal(b, &h.config)
		} else if err == nil {
			h.err = fmt.Errorf("status %d: %s", resp.StatusCode, b)
		}
	}()
	return out
}

// waiters is how many engines wait at a process.
func (p *process) waiters() int {
	resp, err := http.Get("http://" + p.ops + "/metrics")
	if err != nil {
		return -1
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	_, rest, _ := strings.Cut(string(b), "\nlamplighter_config_feed_waiters ")
	n, _, _ := strings.Cut(rest, "\n")
	f, err := strconv.ParseFloat(n, 64)
	if err != nil {
		return -1
	}
	return int(f)
}

// waitingFor is how long engines wait while their cost is measured.
const waitingFor = 3 * time.Second

// processorTime is what a process has used so far.
func (p *process) processorTime(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

const erpApp = `{"name":"ERP","technical_contact":{"name":"Kim","email":"kim@app1.example"},"granted_licenses":["integration_server"],"endpoints":{"erp_sync":{"url":"%s","enabled":true}}}`

// TestEnginesHearOfASwitchWithinASecond switches an ERP sync off at one replica while 500 engines wait
// at two, before and after redis-server was killed.
func TestEnginesHearOfASwitchWithinASecond(t *testing.T) {
	s := newStack(t, "always")
	near := s.serve("api")
	far := &stack{t: t, bin: s.bin, dir: s.dir, redis: s.redis, env: s.env, api: s.address(), ops: s.address()}
	other := far.serve("api")
	erp := soapService(t)
	s.want(http.StatusConflict, nil, http.MethodPut, "/v1/apps/app1", `{"name":"ERP","endpoints":{"mirroring":{"url":"`+erp+`","enabled":true}}}`)
	s.want(http.StatusCreated, nil, http.MethodPut, "/v1/apps/app1", fmt.Sprintf(erpApp, erp))
	var known config
	s.want(http.StatusOK, &known, http.MethodGet, "/v1/config", "")
	if on, url := known.on(t, "app1"); !known.Complete || !on || url != erp {
		t.Fatalf("the feed begins with %+v", known)
	}
	const engines = 500
	for _, when := range []string{"at first", "after Redis was killed"} {
		var waiting []<-chan heardAt
		for i := range engines {
			waiting = append(waiting, s.await(t.Context(), []string{s.api, far.api}[i%2], known.Revision))
		}
		redistest.Eventually(t, 30*time.Second, "all wait", func() bool { return near.waiters() == engines/2 && other.waiters() == engines/2 })
		idle := [2]time.Duration{near.processorTime(t), other.processorTime(t)}
		wait(t, waitingFor)
		idle[0], idle[1] = near.processorTime(t)-idle[0], other.processorTime(t)-idle[1]
		t.Logf("%s: while %d engines waited for %v, the replicas used %v and %v of processor time", when, engines, waitingFor, idle[0], idle[1])
		if most := max(idle[0], idle[1]); most > waitingFor/5 {
			t.Errorf("%s: waiting engines cost a replica %v in %v", when, most, waitingFor)
		}
		if when != "at first" {
			s.redis.Kill()
			if err := s.redis.Restart(); err != nil {
				t.Fatal(err)
			}
			redistest.Eventually(t, 30*time.Second, "it answers again", func() bool {
				status, _, err := s.try(t.Context(), http.MethodGet, "/v1/config", "", nil)
				return err == nil && status == http.StatusOK
			})
		}
		start := time.Now()
		s.want(http.StatusOK, nil, http.MethodPatch, "/v1/apps/app1/endpoints/erp_sync", `{"enabled":false}`)
		switched := time.Now()
		var worst time.Duration
		for _, ch := range waiting {
			h := <-ch
			if h.err != nil {
				t.Fatalf("%s: %v", when, h.err)
			}
			if on, _ := h.on(t, "app1"); on {
				t.Errorf("%s: an engine heard that it is on", when)
			}
			worst = max(worst, h.at.Sub(start))
			known = h.config
		}
		t.Logf("%s: the last of %d engines at two replicas knew %v after the request began, which took %v", when, engines, worst, switched.Sub(start))
		if worst > time.Second {
			t.Errorf("%s: the last engine knew after %v", when, worst)
		}
		s.want(http.StatusOK, nil, http.MethodPatch, "/v1/apps/app1/endpoints/erp_sync?force=true", `{"enabled":true}`)
		s.want(http.StatusOK, &known, http.MethodGet, "/v1/config", "")
	}

	// the future, and a stop while engines wait
	s.want(http.StatusGone, nil, http.MethodGet, "/v1/config?after=9795686698949&wait=30s", "")
	last := s.await(t.Context(), far.api, known.Revision)
	redistest.Eventually(t, 10*time.Second, "it waits", func() bool { return other.waiters() == 1 })
	if err := other.terminate(); err != nil {
		t.Errorf("terminated: %v", err)
	}
	if h := <-last; h.err != nil || h.Revision != known.Revision {
		t.Errorf("a stop answers %+v, %v", h.config, h.err)
	}
}

// TestEnvironmentsResolveDifferently gives two deployments the same settings.
func TestEnvironmentsResolveDifferently(t *testing.T) {
	t.Parallel()
	erp := soapService(t)
	app := fmt.Sprintf(`{"name":"ERP","granted_licenses":["integration_server"],"endpoints":{"erp_sync":{"url":"%s","urls":{"sod":"%s/sod"},"enabled":true}}}`, erp, erp)
	for environment, want := range map[string]string{"sod": erp + "/sod", "online": erp} {
		s := newStack(t, "no", "LAMPLIGHTER_ENVIRONMENT="+environment)
		s.serve("api")
		s.want(http.StatusCreated, nil, http.MethodPut, "/v1/apps/app1", app)
		var feed config
		s.want(http.StatusOK, &feed, http.MethodGet, "/v1/config", "")
		var one struct {
			Traffic      string `json:"traffic"`
			EffectiveURL string `json:"effective_url"`
		}
		s.want(http.StatusOK, &one, http.MethodGet, "/v1/apps/app1/endpoints/erp_sync", "")
		if on, url := feed.on(t, "app1"); !on || url != want || one.Traffic != "on" || one.EffectiveURL != want {
			t.Errorf("%s resolves to %s in the feed and %+v alone, want %s", environment, url, one, want)
		}
	}
}

// TestTenThousandReportsOneMail has engines report 10,000 failed calls for 300 tenants while the API
// is killed twice and the worker once.
func TestTenThousandReportsOneMail(t *testing.T) {
	t.Parallel()
	s := newStack(t, "always", "LAMPLIGHTER_SMTP_DISABLED=false", "LAMPLIGHTER_SMTP_TLS=none", "LAMPLIGHTER_SMTP_FROM=Lamplighter <lights@platform.example>",
		"LAMPLIGHTER_INCIDENT_OPEN_AFTER=8s", "LAMPLIGHTER_PROBE_INTERVAL=0", "LAMPLIGHTER_INCIDENT_RECOVER_AFTER=2s", "LAMPLIGHTER_MAIL_GATHER_FOR=1s")
	m := newMailServer(t, s)
	host, port, _ := strings.Cut(m.smtp, ":")
	s.env = append(s.env, "LAMPLIGHTER_SMTP_HOST="+host, "LAMPLIGHTER_SMTP_PORT="+port)
	api, worker := s.serve("api"), s.serve("worker")
	s.want(http.StatusCreated, nil, http.MethodPut, "/v1/apps/app1", fmt.Sprintf(erpApp, soapService(t)))
	const reports, tenants, batch = 10_000, 300, 500
	path := "/v1/apps/app1/endpoints/erp_sync/error-reports"
	start := time.Now()
	for from := 0; from < reports; from += batch {
		var body strings.Builder
		for i := from; i < from+batch; i++ {
			fmt.Fprintf(&body, `{"tenant":"Cust%d","status":503,"reason":"server_error","excerpt":"call %d"}`+"\n", i%tenants, i)
		}
		key := "batch-" + strconv.Itoa(from)
		switch from {
		case 2000, 6000: // killed while a batch is under way
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _, _ = s.try(ctx, http.MethodPost, path, "application/x-ndjson", []byte(body.String()), "Idempotency-Key", key)
			}()
			wait(t, 5*time.Millisecond)
			api.kill()
			cancel()
			<-done
			api.start()
		case 4000:
			worker.kill()
			worker.start()
		}
		redistest.Eventually(t, 30*time.Second, "a batch is answered", func() bool {
			status, b, err := s.try(t.Context(), http.MethodPost, path, "application/x-ndjson", []byte(body.String()), "Idempotency-Key", key)
			return err == nil && status == http.StatusOK && strings.Count(string(b), `"status":202`) == batch
		})
	}
	took := time.Since(start)
	redistest.Eventually(t, time.Minute, "the mail", func() bool { return len(m.mails()) > 0 })
	var open struct {
		Items []struct {
			State           string `json:"state"`
			Endpoint        string `json:"endpoint"`
			Reported        int    `json:"reported"`
			AffectedTenants int    `json:"affected_tenants"`
		} `json:"items"`
	}
	redistest.Eventually(t, 10*time.Second, "all are counted", func() bool {
		s.want(http.StatusOK, &open, http.MethodGet, "/v1/incidents", "")
		return len(open.Items) == 1 && open.Items[0].Reported >= reports
	})
	if i := open.Items[0]; i.Reported != reports || i.AffectedTenants != tenants || i.State != "open" || i.Endpoint != "erp_sync" {
		t.Errorf("incident %+v", i)
	}
	mails := m.mails()
	if len(mails) != 1 {
		t.Fatalf("%d mails, want 1", len(mails))
	}
	text, _ := m.text(mails[0].ID)
	if !strings.Contains(text, "300 tenants") {
		t.Errorf("the mail does not count the tenants:\n%s", text)
	}
	t.Logf("%d reports for %d tenants in %v, API killed twice, worker once: one incident of %d failed calls and %d tenants, mails: %q",
		reports, tenants, took, open.Items[0].Reported, open.Items[0].AffectedTenants, mails[0].Subject)
	s.want(http.StatusAccepted, nil, http.MethodPost, path, `{"tenant":"Cust1","outcome":"succeeded"}`)
	redistest.Eventually(t, time.Minute, "the second mail", func() bool { return len(m.mails()) == 2 })
}
