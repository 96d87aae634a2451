package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// fakeJobs knows a resync of each app that runs, one that is done, and a clearing.
type fakeJobs struct{ *world }

func (f fakeJobs) all() []mailbox.Job {
	job := func(app partner.ClientID, kind mailbox.JobKind, n int64, state mailbox.JobState) mailbox.Job {
		return mailbox.Job{ID: mailbox.JobID{App: app, Kind: kind, Number: n}, State: state, Done: 200, Of: 1000, By: "Kim", Created: start, Updated: start.Add(time.Second)}
	}
	run := job("app1", mailbox.JobResync, 46656, mailbox.JobRunning)
	run.Reason, run.Tries, run.RetryAt = mailbox.StoreFull, 3, start.Add(time.Minute)
	done := job("app1", mailbox.JobResync, 2, mailbox.JobDone)
	done.Ended, done.Done, done.Skipped = start.Add(time.Hour), 1000, 3
	return []mailbox.Job{run, done, job("app1", mailbox.JobClear, 3, mailbox.JobRunning), job("app1", mailbox.JobCatchUp, 4, mailbox.JobRunning), job("other", mailbox.JobResync, 5, mailbox.JobCancelled)}
}

func (f fakeJobs) List(_ context.Context, q jobs.Query) (out []mailbox.Job, next string, err error) {
	defer f.lock()()
	for _, j := range f.all() {
		if j.ID.String() <= q.After || q.App != "" && j.ID.App != q.App || q.State != "" && j.State != q.State || len(q.Kinds) > 0 && !slices.Contains(q.Kinds, j.ID.Kind) {
			continue
		}
		if out = append(out, j); len(out) == q.Limit {
			return out, "more", nil
		}
	}
	if q.After == "more" {
		return nil, "", mailbox.ErrCursor
	}
	return out, "", f.down
}

func (f fakeJobs) Job(_ context.Context, id mailbox.JobID) (mailbox.Job, error) {
	defer f.lock()()
	for _, j := range f.all() {
		if j.ID == id {
			return j, f.down
		}
	}
	return mailbox.Job{}, fmt.Errorf("job %s: %w", id, registry.ErrNotFound)
}

func (f fakeJobs) Cancel(ctx context.Context, id mailbox.JobID) error {
	j, err := f.Job(ctx, id)
	switch {
	case err != nil:
		return err
	case !id.Kind.IsCancellable():
		return jobs.ErrKept
	case j.State == mailbox.JobDone:
		return jobs.ErrOver
	}
	return nil
}

func idsOf(t *testing.T, body []byte) string {
	t.Helper()
	var page struct{ Items []struct{ ID string } }
	if err := json.Unmarshal(body, &page); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, i := range page.Items {
		ids = append(ids, strings.TrimPrefix(i.ID, "job_"))
	}
	return strings.Join(ids, " ")
}

func TestJobs(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, row := range []struct{ role, query, want string }{
		{"operator", "", "app1_resync_1000 app1_resync_2 app1_clear_3 app1_catch_up_4 other_resync_5"},
		{"operator", "?client_id=other", "other_resync_5"},
		{"operator", "?state=running&client_id=app1", "app1_resync_1000 app1_clear_3 app1_catch_up_4"},
		{"partner:app1", "", "app1_resync_1000 app1_resync_2 app1_catch_up_4"},
		{"partner:other", "?client_id=other", "other_resync_5"},
	} {
		if got := idsOf(t, h.do(request{method: "GET", path: "/v1/jobs" + row.query, role: row.role}).Body.Bytes()); got != row.want {
			t.Errorf("%s %s: %q, want %q", row.role, row.query, got, row.want)
		}
	}
	for _, row := range []struct {
		role, method, path string
		want               int
	}{
		{"operator", "GET", "/v1/jobs?state=frozen", 422},
		{"operator", "GET", "/v1/jobs?client_id=a%20b", 422},
		{"operator", "GET", "/v1/jobs?kind=clear", 422},
		{"partner:app1", "GET", "/v1/jobs?client_id=other", 403},
		{"operator", "GET", "/v1/jobs/job_app1_clear_3", 200},
		{"partner:app1", "GET", "/v1/jobs/job_app1_clear_3", 404},
		{"partner:app1", "DELETE", "/v1/jobs/job_app1_clear_3", 404},
		{"partner:app1", "GET", "/v1/jobs/job_other_resync_5", 404},
		{"operator", "GET", "/v1/jobs/job_app1_resync_9", 404},
		{"operator", "GET", "/v1/jobs/nonsense", 404},
		{"operator", "DELETE", "/v1/jobs/job_app1_clear_3", 409},
		{"operator", "DELETE", "/v1/jobs/job_app1_catch_up_4", 409},
		{"partner:app1", "DELETE", "/v1/jobs/job_app1_catch_up_4", 409},
		{"operator", "DELETE", "/v1/jobs/job_app1_resync_2", 409},
		{"partner:app1", "DELETE", "/v1/jobs/job_app1_resync_1000", 204},
		{"operator", "DELETE", "/v1/jobs/job_other_resync_5", 204},
	} {
		h.want(t, row.want, request{method: row.method, path: row.path, role: row.role})
	}
	body := h.do(request{method: "GET", path: "/v1/jobs/job_app1_resync_1000", role: "partner:app1"}).Body.String()
	for _, part := range []string{`"done":200,"of":1000`, `"by":"Kim"`, `"reason":"store_full"`, `"detail":"Redis has no memory`, `"tries":3`, `"retry_at":`} {
		if !strings.Contains(body, part) {
			t.Errorf("no %s in %s", part, body)
		}
	}
	if n := len(h.audited); n != 2 || h.audited[0].Action != "job.cancel" || h.audited[0].Subject != "app1" || h.audited[0].After != `{"job":"job_app1_resync_1000"}` {
		t.Errorf("audited %+v", h.audited)
	}
}

func TestWhatIsDoneForAWholeAppNamesItsJob(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.want(t, 201, request{method: "PUT", path: "/v1/apps/app9", role: "admin", body: appBody})
	answer := h.do(request{method: "POST", path: "/v1/apps/app9/resync", role: "operator"})
	if got := answer.Body.String(); got != "{\"tenants\":0,\"job\":\"job_app9_resync_1000\"}\n" {
		t.Errorf("answer %s", got)
	}
	answer = h.do(request{method: "POST", path: "/v1/apps/app9/resync", role: "operator", body: `{"tenants":["Cust1"]}`})
	if got := answer.Body.String(); got != "{\"tenants\":1}\n" {
		t.Errorf("answer %s", got)
	}
	answer = h.do(request{method: "DELETE", path: "/v1/apps/app9", role: "operator"})
	if got := answer.Header().Get("Location"); !strings.HasPrefix(got, "/v1/jobs/job_app9_clear_") {
		t.Errorf("Location %q", got)
	}
}
