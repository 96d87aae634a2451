package service_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/lamplighter/lamplighter/internal/queue"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// jobs lists the jobs of app1 as "<kind> <state>", newest first.
func (r *running) jobs() (out []string) {
	r.Helper()
	for _, j := range r.items("/v1/jobs?client_id=app1") {
		kind, _ := j["kind"].(string)
		state, _ := j["state"].(string)
		out = append(out, kind+" "+state)
	}
	return out
}

// awaitJob waits until the newest job of app1 is as told.
func (r *running) awaitJob(want string) {
	r.Helper()
	redistest.Eventually(r, 10*time.Second, "the newest job is "+want, func() bool { js := r.jobs(); return len(js) > 0 && js[0] == want })
}

// An app that gets its first URL is told of who approved it before, by a job; a task that an older version left for that makes one as well.
func TestAFirstURLIsToldByAJob(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.call("DELETE", "/v1/apps/app1", "")
	r.awaitJob("clear done")
	r.call("POST", "/v1/state-changes", `{"tenant":"a","change_type":"suspend"}`)
	r.call("PUT", "/v1/apps/app1", `{"name":"App"}`)
	r.call("PUT", "/v1/apps/app1/approvals/a", "")
	if js := r.jobs(); len(js) != 1 {
		t.Fatalf("jobs %v", js)
	}
	r.call("PATCH", "/v1/apps/app1/endpoints/state_change", `{"url":"`+r.hook+`","enabled":true}`)
	r.awaitJob("catch_up done")
	delivered := func() int { return len(r.items("/v1/apps/app1/deliveries")) }
	redistest.Eventually(t, 10*time.Second, "the tenant is told", func() bool { return delivered() == 1 })

	cfg := settings(t)
	name := queue.AsynqName(queue.FormatNamespace(cfg.Redis.Prefix, cfg.Environment), queue.Resync)
	for _, task := range []string{`{"app":"app1"}`, `{"app":"nobody"}`} {
		if _, err := asynq.NewClientFromRedisClient(r.rdb).EnqueueContext(t.Context(), asynq.NewTask(string(queue.Resync), []byte(task)), asynq.Queue(name)); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Eventually(t, 10*time.Second, "a second job is done", func() bool { js := r.jobs(); return len(js) == 3 && js[0] == "catch_up done" })
	if n := delivered(); n != 1 {
		t.Errorf("told %d times", n)
	}
}
