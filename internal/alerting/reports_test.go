package alerting_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/alerting"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

const erp = partner.ERPSync

// reportedTo is a world with an ERP sync on a Redis of its own kind.
func reportedTo(t *testing.T, store *registry.IncidentStore) *world {
	t.Helper()
	w := newWorld(t)
	w.app.Endpoints[erp] = partner.Endpoint{URL: "https://erp.example/", Enabled: true, SendErrorEmails: true}
	if store != nil {
		w.store, w.opts.Store = store, store
	}
	return w
}

func (w *world) report(from, n, tenants int) {
	w.t.Helper()
	reports := make([]registry.Report, n)
	for i := range reports {
		reports[i] = registry.Report{
			Line: from + i + 1, Tenant: tenant.ID(fmt.Sprint("Cust", (from+i)%tenants)),
			Failure: &incident.Failure{Reason: delivery.ReasonServerError, Status: 503, Excerpt: "no"},
		}
	}
	if _, err := w.store.RecordReports(w.t.Context(), id, erp, "key", time.Hour, reports); err != nil {
		w.t.Fatal(err)
	}
}

// tick has a tracker as of now let time pass.
func (w *world) tick(d time.Duration) {
	w.t.Helper()
	w.Tracker = alerting.New(w.opts)
	w.after(d)
}

// TestTenThousandReportsAreOneIncident sends every batch twice, under one key, on a real Redis.
func TestTenThousandReportsAreOneIncident(t *testing.T) {
	t.Parallel()
	rdb := redistest.Real(t)
	w := reportedTo(t, registry.NewIncidentStore(rdb, keys.New(""), 0))
	start := time.Now()
	for from := 0; from < 10_000; from += 500 {
		w.report(from, 500, 300)
		w.report(from, 500, 300)
		w.tick(3 * time.Second)
	}
	took := time.Since(start)
	w.tick(5 * time.Minute)
	w.tick(time.Minute)
	w.want("ten thousand reports", "opened 1 to "+kim)
	all, err := w.store.ListOutbox(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	m := *all[0].Mail
	t.Logf("10,000 reports, each sent twice, and 20 steps took %v: %d calls, %d tenants, %d of them named", took, m.Reported, m.AffectedCount, len(m.Affected))
	if m.Reported != 10_000 || m.AffectedCount != 300 || len(m.Affected) != 50 || !m.AffectedMore || m.Failure.Source != incident.SourceReport {
		t.Errorf("the mail says %d calls, %d tenants, names %d", m.Reported, m.AffectedCount, len(m.Affected))
	}
	if _, err := w.store.RecordReports(t.Context(), id, erp, "", time.Hour, []registry.Report{{Tenant: "Cust1"}}); err != nil {
		t.Fatal(err)
	}
	w.tick(time.Second)
	w.tick(2 * time.Minute)
	w.want("a success was reported", "opened 1 to "+kim, "recovered 2 to "+kim)
	w.tick(time.Second)
	if n := rdb.Exists(t.Context(), "lamplighter:{app1}:reports", "lamplighter:{app1}:reported:erp_sync").Val(); n != 0 {
		t.Error("reports are remembered although all is well")
	}
}

// An engine's word that it answers again counts at once; a probe's does not while engines complain.
func TestWhoseSuccessCounts(t *testing.T) {
	t.Parallel()
	w := reportedTo(t, nil)
	w.report(0, 1, 1)
	w.tick(time.Second)
	w.want("too early")
	if err := w.Observe(t.Context(), id, erp, incident.Success{Source: incident.SourceProbe}); err != nil {
		t.Fatal(err)
	}
	phase := func() incident.Phase {
		states, err := w.store.Incidents(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		s := states[erp]
		return s.Phase()
	}
	if got := phase(); got != incident.Failing {
		t.Errorf("after a healthy probe: %s", got)
	}
	if _, err := w.store.RecordReports(t.Context(), id, erp, "", time.Hour, []registry.Report{{Tenant: "Cust1"}}); err != nil {
		t.Fatal(err)
	}
	w.tick(time.Second)
	if got := phase(); got != incident.Healthy {
		t.Errorf("after a reported success: %s", got)
	}
}

// Two workers that tick one app at a time take its reports once, and tell of them once.
func TestALostRaceForReportsTellsNothing(t *testing.T) {
	t.Parallel()
	w := reportedTo(t, nil)
	w.report(0, 20, 3)
	w.tick(time.Second)
	w.now = w.now.Add(10 * time.Minute)
	w.report(20, 20, 3)
	other := w.Tracker
	w.log.Reset()
	w.woken, w.opts.Store = nil, &racing{w.store, func() {
		w.now = w.now.Add(time.Second)
		if _, err := other.TickApp(t.Context(), id, registry.OpenIncidents{Reports: true}); err != nil {
			t.Error(err)
		}
	}}
	w.tick(0)
	w.want("opened once", "opened 1 to "+kim)
	if n := strings.Count(w.log.String(), "mail decided"); n != 1 || len(w.woken) != 1 {
		t.Errorf("%d mails told, %d tasks queued, want 1 of each:\n%s", n, len(w.woken), w.log)
	}
}

// One failed call opens no incident, and the failure of an endpoint that may not be called any more is dropped.
func TestOneReportAndALostLicence(t *testing.T) {
	t.Parallel()
	w := reportedTo(t, nil)
	w.report(0, 1, 1)
	for range 20 {
		w.tick(time.Minute)
	}
	w.want("one report")
	w.report(1, 20, 3)
	w.tick(time.Second)
	w.want("engines go on complaining", "opened 1 to "+kim)
	w.opts.Licences = partner.DefaultRequirements()
	w.tick(25 * time.Hour)
	w.report(21, 20, 3)
	w.tick(73 * time.Hour)
	w.want("the licence is gone", "opened 1 to "+kim)
	if n := w.rdb.Exists(t.Context(), "lamplighter:{app1}:reports", "lamplighter:{app1}:reported:erp_sync").Val(); n != 0 {
		t.Error("reports are remembered of an endpoint without a licence")
	}
	ended, err := w.store.History(t.Context(), id, 10)
	if err != nil || len(ended) != 1 || ended[0].Ending != incident.EndUnused {
		t.Errorf("ended %+v, %v", ended, err)
	}
}

// Reports about an endpoint that is off open no incident, and are not kept.
func TestReportsOfAnEndpointThatIsOff(t *testing.T) {
	t.Parallel()
	w := reportedTo(t, nil)
	w.app.Endpoints[erp].Enabled = false
	w.report(0, 10, 3)
	w.tick(time.Second)
	w.tick(10 * time.Minute)
	w.want("off")
	if n := w.rdb.Exists(t.Context(), "lamplighter:{app1}:reports", "lamplighter:{app1}:incidents").Val(); n != 0 {
		t.Error("something is remembered of an endpoint that is off")
	}
}
