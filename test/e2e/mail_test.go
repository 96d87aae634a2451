package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/redistest"
)

// mailServer is a real SMTP server whose mails can be asked for.
type mailServer struct {
	t    testing.TB
	smtp string
	api  string
}

// mailpit is where that server's program is.
func mailpit(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("mailpit")
	if err != nil {
		if path, err = filepath.Abs("../../.tools/mailpit"); err == nil {
			path, err = exec.LookPath(path)
		}
	}
	if err != nil {
		t.Fatal("mailpit is not built and this test needs a real mail server: run 'make tools'")
	}
	return path
}

func newMailServer(t testing.TB, s *stack) *mailServer {
	t.Helper()
	m := &mailServer{t: t, smtp: s.address(), api: "http://" + s.address()}
	cmd := exec.Command(mailpit(t), "--smtp", m.smtp, "--listen", strings.TrimPrefix(m.api, "http://"), "--disable-version-check")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	redistest.Eventually(t, 30*time.Second, "mailpit answers", m.answers)
	return m
}

func (m *mailServer) answers() bool {
	resp, err := http.Get(m.api + "/api/v1/messages")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// received is a mail as the server lists it.
type received struct {
	ID        string
	MessageID string
	Subject   string
	To        []struct{ Address string }
}

func (m *mailServer) mails() []received {
	var list struct {
		Messages []received `json:"messages"`
	}
	get(m.t, m.api+"/api/v1/messages?limit=500", &list)
	return list.Messages
}

// text returns a mail's plain text and its headers.
func (m *mailServer) text(id string) (string, map[string][]string) {
	var msg struct{ Text, HTML string }
	get(m.t, m.api+"/api/v1/message/"+id, &msg)
	if msg.HTML == "" {
		m.t.Error("mail has no HTML part")
	}
	headers := map[string][]string{}
	get(m.t, m.api+"/api/v1/message/"+id+"/headers", &headers)
	return msg.Text, headers
}

// marked reports that the process has written down that a mail was sent: one that is killed between
// the server's acceptance and that mark sends the mail again, under the same Message-ID.
func (p *process) marked(kind string) bool {
	resp, err := http.Get("http://" + p.ops + "/metrics")
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return strings.Contains(string(b), `lamplighter_mails_total{kind="`+kind+`",result="sent"} 1`)
}

// TestPeopleHearOnceThatItFailsAndOnceThatItIsWell stops an app, kills the service between the two
// mails, and starts both again.
func TestPeopleHearOnceThatItFailsAndOnceThatItIsWell(t *testing.T) {
	t.Parallel()
	s := newStack(t, "always", "LAMPLIGHTER_SMTP_DISABLED=false", "LAMPLIGHTER_SMTP_TLS=none", "LAMPLIGHTER_SMTP_FROM=Lamplighter <lights@platform.example>",
		"LAMPLIGHTER_INCIDENT_OPEN_AFTER=2s", "LAMPLIGHTER_INCIDENT_RECOVER_AFTER=2s", "LAMPLIGHTER_MAIL_GATHER_FOR=1s")
	m := newMailServer(t, s)
	host, port, _ := strings.Cut(m.smtp, ":")
	s.env = append(s.env, "LAMPLIGHTER_SMTP_HOST="+host, "LAMPLIGHTER_SMTP_PORT="+port)
	p := s.serve("api,worker")
	names := tenantNames(20)
	r := newReceiver(t, "app1")
	s.register(r, "RS256", names)
	r.stop()
	tr := newTruth()
	for round := range 3 {
		var changes []change
		for _, n := range names {
			changes = append(changes, change{n, []int{2, 3, 2}[round]})
		}
		if err := s.publish(t.Context(), tr, "round-"+strconv.Itoa(round), changes); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Eventually(t, 30*time.Second, "the first mail", func() bool { return len(m.mails()) == 1 && p.marked("opened") })
	p.kill()
	p.start()
	wait(t, 3*time.Second) // whatever would be repeated after the restart is repeated now
	var open struct {
		Items []struct {
			State  string `json:"state"`
			Reason string `json:"reason"`
		} `json:"items"`
	}
	s.want(http.StatusOK, &open, http.MethodGet, "/v1/incidents?client_id=app1", "")
	if len(open.Items) != 1 || open.Items[0].State != "open" || open.Items[0].Reason != "refused" {
		t.Errorf("incidents = %+v", open.Items)
	}
	r.start()
	awaitSettled(t, tr, 30*time.Second, r)
	redistest.Eventually(t, 30*time.Second, "the second mail", func() bool { return len(m.mails()) == 2 && p.marked("recovered") })
	p.kill()
	p.start()
	wait(t, 3*time.Second)
	mails := m.mails()
	if len(mails) != 2 {
		b, _ := json.MarshalIndent(mails, "", " ")
		t.Fatalf("%d mails, want opened and recovered once each:\n%s", len(mails), b)
	}
	recovered, opened := mails[0], mails[1] // newest first
	t.Logf("mails: %q, then %q", opened.Subject, recovered.Subject)
	check := func(x received, words ...string) map[string][]string {
		text, headers := m.text(x.ID)
		for _, w := range words {
			if !strings.Contains(x.Subject+"\n"+text, w) {
				t.Errorf("mail %q does not say %q:\n%s", x.Subject, w, text)
			}
		}
		if len(x.To) != 1 || x.To[0].Address != "kim@app1.example" {
			t.Errorf("mail went to %+v", x.To)
		}
		if fmt.Sprint(headers["Auto-Submitted"]) != "[auto-generated]" {
			t.Errorf("Auto-Submitted = %v", headers["Auto-Submitted"])
		}
		return headers
	}
	first := check(opened, "failing", "app1", "refused")
	second := check(recovered, "app1")
	if len(first["Message-Id"]) != 1 || fmt.Sprint(second["In-Reply-To"]) != fmt.Sprint(first["Message-Id"]) {
		t.Errorf("mails are not threaded: %v, then in reply to %v", first["Message-Id"], second["In-Reply-To"])
	}
	r.healthy()
}
