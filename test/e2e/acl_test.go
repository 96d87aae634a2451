package e2e_test

import (
	"bytes"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// documentedACL are the commands that docs/security.md tells operators to run.
var documentedACL = regexp.MustCompile(`(?m)^ +redis-cli (?:-p 26379 )?(ACL SETUSER lamplighter (?:.*\\\n)*.*)$`)

// The documented commands, in the order of the document.
const (
	dataUser = iota
	clusterUser
	sentinelUser
)

// aclArguments reads a documented command as Redis takes it.
func aclArguments(t *testing.T, which int, password string) []any {
	t.Helper()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	all := documentedACL.FindAllSubmatch(text, -1)
	if len(all) != sentinelUser+1 {
		t.Fatalf("docs/security.md has %d ACL SETUSER commands, want one each for data, a Cluster and sentinels", len(all))
	}
	m := all[which]
	command := strings.NewReplacer("'", "", "\\\n", " ", ">PASSWORD", ">"+password).Replace(string(m[1]))
	var args []any
	for word := range strings.FieldsSeq(command) {
		args = append(args, word)
	}
	return args
}

// TestTheDocumentedUserIsEnough runs the whole service, under load and through a crash of a worker,
// on a Redis that speaks TLS alone, asks for a client certificate and gives the documented user the
// documented rights: nothing is lost, and Redis refused nothing.
func TestTheDocumentedUserIsEnough(t *testing.T) {
	t.Parallel()
	const password = "correct-horse-battery"
	pair := redistest.NewAuthority(t, time.Hour)
	port, err := redistest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	server := redistest.Start(t, "--appendonly", "yes", "--tls-port", strconv.Itoa(port),
		"--tls-cert-file", pair.Cert, "--tls-key-file", pair.Key, "--tls-ca-cert-file", pair.CA)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { _ = admin.Close() })
	if err := admin.Do(t.Context(), aclArguments(t, dataUser, password)...).Err(); err != nil {
		t.Fatalf("the documented ACL SETUSER: %v", err)
	}
	s := newStack(t, "everysec",
		"LAMPLIGHTER_REDIS_URL=rediss://127.0.0.1:"+strconv.Itoa(port)+"/0", "LAMPLIGHTER_REDIS_USERNAME=lamplighter", "LAMPLIGHTER_REDIS_PASSWORD="+password,
		"LAMPLIGHTER_REDIS_TLS_CA="+pair.CA, "LAMPLIGHTER_REDIS_TLS_CERT="+pair.Cert, "LAMPLIGHTER_REDIS_TLS_KEY="+pair.Key,
		"LAMPLIGHTER_SMTP_DISABLED=false", "LAMPLIGHTER_SMTP_HOST=127.0.0.1", "LAMPLIGHTER_SMTP_FROM=a@example.com", "LAMPLIGHTER_INCIDENT_OPEN_AFTER=1s")
	s.serve("api")
	worker := s.serve("worker")
	names := tenantNames(60)
	well, down := newReceiver(t, "app1"), newReceiver(t, "app2")
	down.answer = func(notification) int { return http.StatusInternalServerError }
	s.register(well, "RS256", names)
	s.register(down, "RS256", names)
	tr := newTruth()
	l := s.load(tr, names, 2, 20)
	redistest.Eventually(t, 30*time.Second, "an incident opens, whose mail nobody takes", func() bool {
		_, b := s.call(http.MethodGet, "/v1/incidents", "", nil)
		return bytes.Contains(b, []byte(`"state":"open"`))
	})
	worker.kill()
	worker.start()
	redistest.Eventually(t, 60*time.Second, "some load", func() bool { return l.sent.Load() >= 500 })
	l.end(t)
	awaitSettled(t, tr, 60*time.Second, well)
	s.agree(tr, well)
	report(t, "TLS and the documented ACL user", tr, l, []*receiver{well})
	for _, path := range []string{"/v1/apps/app1/mailbox", "/v1/apps/app1/deliveries", "/v1/audit", "/v1/apps/app1/approvals"} {
		if status, b := s.call(http.MethodGet, path, "", nil); status != http.StatusOK {
			t.Errorf("GET %s: %d %s", path, status, b)
		}
	}
	s.want(http.StatusNoContent, nil, http.MethodDelete, "/v1/apps/app2", "")
	page := metrics(t, worker.ops)
	for _, line := range []string{"lamplighter_queue_collector_up 1", `lamplighter_redis_check_failing{check="persistence"} 0`} {
		if !strings.Contains(page, "\n"+line+"\n") {
			t.Errorf("no metric %s", line)
		}
	}
	refused, err := admin.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range refused {
		t.Errorf("Redis refused the documented user: %v", entry)
	}
}

func metrics(t *testing.T, ops string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ops+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var page bytes.Buffer
	if _, err := page.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return page.String()
}
