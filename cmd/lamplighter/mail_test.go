package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/mailer/smtptest"
)

// TestMailTest sends to a server that asks for STARTTLS and a login, and to ones that refuse. What each
// stage says is tested with the mailer.
func TestMailTest(t *testing.T) {
	t.Parallel()
	const password = "correct-horse-battery"
	for name, tt := range map[string]struct {
		password string
		script   smtptest.Script
		code     int
		says     []string
	}{
		"Taken": {password, smtptest.Script{}, exitDone, []string{
			"ok      settings", "ok      connect", "ok      tls", "TLS 1.3", "logged in as lamp", "ok      content", "was accepted for kim@example.com",
		}},
		"WrongPassword": {"wrong-" + password, smtptest.Script{}, exitFailed, []string{"FAILED  login", "535", "check smtp.username and smtp.password"}},
		"Greylisted":    {password, smtptest.Script{Rcpt: "450 4.7.1 later"}, exitFailed, []string{"ok      sender", "FAILED  recipient", "450", "for 5 days"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := smtptest.Start(t, smtptest.Options{STARTTLS: true, RequireTLS: true, Username: "lamp", Password: password})
			srv.Answer(tt.script)
			dir := t.TempDir()
			ca, _ := srv.WriteCertificate(t, dir)
			file := filepath.Join(dir, "password")
			if err := os.WriteFile(file, []byte(tt.password), 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			code := run([]string{
				"mail", "test", "--to", "kim@example.com", "--smtp-host", srv.Host, "--smtp-port", strconv.Itoa(srv.Port), "--smtp-ca", ca,
				"--smtp-from", "Lamplighter <lights@platform.example>", "--smtp-username", "lamp", "--smtp-password-file", file,
			}, &out, &errs)
			said := out.String() + errs.String()
			for _, s := range tt.says {
				if !strings.Contains(said, s) {
					t.Errorf("does not say %q", s)
				}
			}
			if code != tt.code || len(srv.Mails()) != 1-tt.code || strings.Contains(said, password) || t.Failed() {
				t.Errorf("exit code %d, %d mails, said\n%s", code, len(srv.Mails()), said)
			}
			if code == exitDone {
				if h := srv.Mails()[0].Header(t); h.Get("Subject") != "[Lamplighter] Test mail (online)" || h.Get("Auto-Submitted") != "auto-generated" {
					t.Errorf("header %v", h)
				}
			}
		})
	}
}

func TestMailTestToNobody(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	var out, errs bytes.Buffer
	code := run([]string{"mail", "test", "--to", "kim@example.com", "--smtp-host", "127.0.0.1", "--smtp-port", port, "--smtp-from", "a@b.example"}, &out, &errs)
	if code != exitFailed || !strings.Contains(out.String(), "FAILED  connect") || !strings.Contains(errs.String(), "the mail was not sent") {
		t.Errorf("exit code %d, said\n%s%s", code, &out, &errs)
	}
}
