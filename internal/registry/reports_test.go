package registry_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"

	"github.com/redis/go-redis/v9"
)

const erp = partner.ERPSync

// reporting is an incident store that is reported to.
type reporting struct {
	*registry.IncidentStore
	t    *testing.T
	rdb  redis.UniversalClient
	line int
}

func eachReporting(t *testing.T, f func(t *testing.T, s *reporting)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		rdb.AddHook(&counter{t: t})
		f(t, &reporting{IncidentStore: registry.NewIncidentStore(rdb, keys.New("test"), 0), t: t, rdb: rdb})
	})
}

func failed(id string) registry.Report {
	return registry.Report{Tenant: tenant.ID(id), Failure: &incident.Failure{Reason: delivery.ReasonServerError, Status: 503, Excerpt: id, Source: incident.SourceReport}}
}

var succeeded = registry.Report{Tenant: "Cust1"}

// report numbers the reports on and returns which were there before.
func (s *reporting) report(key string, reports ...registry.Report) []bool {
	s.t.Helper()
	for i := range reports {
		s.line++
		reports[i].Line = s.line
	}
	return must[[]bool](s.t)(s.RecordReports(s.t.Context(), "app1", erp, key, time.Hour, reports))
}

// take takes what is pending with a state of the incident after it.
func (s *reporting) take(state incident.State) registry.Reports {
	s.t.Helper()
	was := must[registry.StoredIncident](s.t)(s.ReadReportedIncident(s.t.Context(), "app1", erp))
	same(s.t, "committed", must[bool](s.t)(s.CommitIfUnchanged(s.t.Context(), "app1", erp, was, incident.Decision{State: state})), true)
	return *was.Reports
}

func (s *reporting) counts(r registry.Reports) string {
	return fmt.Sprintf("%d before, %v, %d after, %d tenants", r.Before, r.Succeeded, r.After, r.Affected)
}

var troubled = incident.State{Format: 1, ReportedAt: t0, Reported: 1, FailingSince: t0}

func TestReportsCountOnce(t *testing.T) {
	t.Parallel()
	eachReporting(t, func(t *testing.T, s *reporting) {
		same(t, "nothing", s.counts(s.take(troubled)), "0 before, false, 0 after, 0 tenants")
		same(t, "first", s.report("k", failed("Cust1"), failed("Cust2"), failed("Cust1")), []bool{false, false, false})
		s.line = 0
		same(t, "repeated and more", s.report("k", failed("Cust1"), failed("Cust2"), failed("Cust1"), failed("Cust3")), []bool{true, true, true, false})
		s.line = 0
		same(t, "another key", s.report("k2", failed("Cust1")), []bool{false})
		s.line = 0
		same(t, "no key", s.report("", failed("Cust1"), failed("Cust1")), []bool{false, false})
		same(t, "pending", must[[]partner.EndpointKind](t)(s.ReportedEndpoints(t.Context(), "app1")), []partner.EndpointKind{erp})
		found, errs := s.ReadOpenIncidents(t.Context(), []partner.ClientID{"app1", "app2"})
		noErr(t, "read troubles", errors.Join(errs...))
		same(t, "troubled", []bool{found[0].Reports, found[0].Mails, found[1] == nil}, []bool{true, false, true})
		r := s.take(troubled)
		same(t, "taken", s.counts(r), "0 before, false, 7 after, 3 tenants")
		slices.Sort(r.Tenants)
		same(t, "tenants", r.Tenants, []tenant.ID{"Cust1", "Cust2", "Cust3"})
		same(t, "newest", *r.Newest, *failed("Cust1").Failure)
		same(t, "taken once", s.counts(s.take(troubled)), "0 before, false, 0 after, 3 tenants")
		same(t, "still in trouble", must[[]partner.EndpointKind](t)(s.ReportedEndpoints(t.Context(), "app1")), []partner.EndpointKind{erp})
		s.report("", failed("Cust9"))
		same(t, "later ones", s.counts(s.take(troubled)), "0 before, false, 1 after, 4 tenants")
	})
}

func TestReportedSuccess(t *testing.T) {
	t.Parallel()
	eachReporting(t, func(t *testing.T, s *reporting) {
		s.report("", succeeded)
		same(t, "a success that follows nothing", s.rdb.DBSize(t.Context()).Val(), int64(0))
		s.report("", failed("a"), failed("b"), succeeded, failed("c"))
		same(t, "between", s.counts(s.take(troubled)), "2 before, true, 1 after, 3 tenants")
		s.report("", succeeded)
		same(t, "alone, in trouble", s.counts(s.take(troubled)), "0 before, true, 0 after, 3 tenants")
		s.report("", failed("d"), succeeded, succeeded)
		same(t, "at the end", s.counts(s.take(incident.State{})), "1 before, true, 0 after, 4 tenants")
		same(t, "nothing is remembered when all is well", s.rdb.DBSize(t.Context()).Val(), int64(0))
	})
}

// What comes between reading and writing is neither lost nor taken.
func TestReportsDuringAStep(t *testing.T) {
	t.Parallel()
	eachReporting(t, func(t *testing.T, s *reporting) {
		s.report("", failed("a"))
		was := must[registry.StoredIncident](t)(s.ReadReportedIncident(t.Context(), "app1", erp))
		s.report("", failed("b"), succeeded, failed("b"))
		same(t, "committed", must[bool](t)(s.CommitIfUnchanged(t.Context(), "app1", erp, was, incident.Decision{})), true)
		same(t, "the rest", s.counts(s.take(troubled)), "1 before, true, 1 after, 2 tenants")

		// another commit in between makes this one be decided anew, with what is left then
		s.report("", failed("c"))
		was = must[registry.StoredIncident](t)(s.ReadReportedIncident(t.Context(), "app1", erp))
		same(t, "seen", was.Reports.After, int64(1))
		other := troubled
		other.Reported = 99
		s.take(other)
		same(t, "committed late", must[bool](t)(s.CommitIfUnchanged(t.Context(), "app1", erp, was, incident.Decision{State: troubled})), false)
		was = must[registry.StoredIncident](t)(s.ReadReportedIncident(t.Context(), "app1", erp))
		same(t, "left", was.Reports.After, int64(0))
		states := must[map[partner.EndpointKind]incident.State](t)(s.Incidents(t.Context(), "app1"))
		same(t, "counted once", states[erp].Reported, int64(99))
	})
}

func TestReportsAreBounded(t *testing.T) {
	t.Parallel()
	eachReporting(t, func(t *testing.T, s *reporting) {
		for part := range 21 {
			var reports []registry.Report
			for i := range 500 {
				reports = append(reports, failed(fmt.Sprintf("Cust%d", part*500+i)))
			}
			s.report("key", reports...)
		}
		r := s.take(troubled)
		same(t, "counted", s.counts(r), "0 before, false, 10500 after, 10000 tenants")
		same(t, "named", len(r.Tenants), 50)
		bits := must[[]string](t)(s.rdb.Keys(t.Context(), "test:{app1}:report_lines:*").Result())
		if len(bits) != 1 || s.rdb.PTTL(t.Context(), bits[0]).Val() <= 0 || s.rdb.StrLen(t.Context(), bits[0]).Val() > 1400 {
			t.Errorf("10500 lines of a key take %v", bits)
		}
		noErr(t, "end the app's life", s.rdb.Unlink(t.Context(), keys.New("test").AppLife("app1")...).Err())
		same(t, "left of a dropped app", s.rdb.DBSize(t.Context()).Val(), int64(1)) // the key's lines expire
	})
}

func TestUnreadableReports(t *testing.T) {
	t.Parallel()
	eachReporting(t, func(t *testing.T, s *reporting) {
		for _, text := range []string{"2;1;0;-;", "x", "1;1;0;x;{}", `1;1;0;-;{"reason":"unheard_of"}`} {
			noErr(t, "spoil", s.rdb.HSet(t.Context(), "test:{app1}:reports", "erp_sync", text).Err())
			_, err := s.ReportedEndpoints(t.Context(), "app1")
			wantErr(t, text, err, registry.ErrUnreadable)
			if !strings.Contains(text, "reason") {
				_, err = s.RecordReports(t.Context(), "app1", erp, "", time.Hour, []registry.Report{failed("a")})
				wantErr(t, text, err, registry.ErrUnreadable)
			}
		}
	})
}
