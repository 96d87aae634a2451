package mailer_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/mailer/smtptest"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/secret"
)

const password = "correct-horse-battery"

// transport reaches the server at host and port.
func transport(t testing.TB, host string, port int, change func(*mailer.SMTPOptions)) *mailer.SMTP {
	t.Helper()
	o := mailer.SMTPOptions{Host: host, Port: port, TLS: mailer.TLSNone, HELO: "test.example", Timeout: 10 * time.Second}
	if change != nil {
		change(&o)
	}
	s, err := mailer.NewSMTP(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func trusting(srv *smtptest.Server, mode mailer.TLSMode) func(*mailer.SMTPOptions) {
	return func(o *mailer.SMTPOptions) {
		o.TLS, o.TLSConfig = mode, srv.ClientTLS()
		o.Username, o.Password = "user", secret.New(password)
	}
}

func TestSMTPAnswers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script              smtptest.Script
		accepted, permanent bool
		code                int
		bad, server         bool
	}{
		"Accepted":              {script: smtptest.Script{}, accepted: true},
		"BadFarewell":           {script: smtptest.Script{Quit: smtptest.Drop}, accepted: true},
		"ResetFailsAfterwards":  {script: smtptest.Script{Rset: smtptest.Drop}, accepted: true},
		"ResetRefused":          {script: smtptest.Script{Rset: "502 no"}, accepted: true},
		"Busy":                  {script: smtptest.Script{Greeting: "421 4.3.2 busy"}, server: true},
		"NotForYou":             {script: smtptest.Script{Greeting: "554 go away"}, server: true},
		"SenderRefused":         {script: smtptest.Script{Mail: "550 5.7.1 not you"}, code: 550, server: true},
		"LoginWanted":           {script: smtptest.Script{Rcpt: "530 5.7.0 authentication required"}, code: 530},
		"Greylisted":            {script: smtptest.Script{Rcpt: "451 4.7.1 come back later"}, code: 451},
		"NoSuchUser":            {script: smtptest.Script{Rcpt: "550 5.1.1 no such user"}, permanent: true, code: 550, bad: true},
		"NoSuchUserInPlain":     {script: smtptest.Script{Rcpt: "550 who?"}, permanent: true, code: 550, bad: true},
		"Disabled":              {script: smtptest.Script{Rcpt: "550 5.2.1 disabled"}, permanent: true, code: 550, bad: true},
		"FullForGood":           {script: smtptest.Script{Rcpt: "552 5.2.2 mailbox full"}, permanent: true, code: 552},
		"RelayDenied":           {script: smtptest.Script{Rcpt: "550 5.7.1 relaying denied"}, permanent: true, code: 550},
		"DataRefusedForNow":     {script: smtptest.Script{Data: "452 4.3.1 disk full"}, code: 452},
		"DataRefused":           {script: smtptest.Script{Data: "554 5.6.0 no"}, permanent: true, code: 554},
		"ContentRefused":        {script: smtptest.Script{Done: "554 5.7.1 spam"}, permanent: true, code: 554},
		"ContentRefusedForNow":  {script: smtptest.Script{Done: "451 4.3.0 try again"}, code: 451},
		"DroppedAtRecipient":    {script: smtptest.Script{Rcpt: smtptest.Drop}},
		"DroppedAfterData":      {script: smtptest.Script{Done: smtptest.Drop}},
		"DroppedBeforeGreeting": {script: smtptest.Script{Greeting: smtptest.Drop}, server: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := smtptest.Start(t, smtptest.Options{})
			srv.Answer(tt.script)
			err := transport(t, srv.Host, srv.Port, nil).Send(t.Context(), compose(t, letter()))
			if tt.accepted {
				if err != nil || len(srv.Mails()) != 1 {
					t.Fatalf("%v, %d mails; want it accepted", err, len(srv.Mails()))
				}
				return
			}
			var se *mailer.SendError
			if !errors.As(err, &se) || se.Permanent != tt.permanent || tt.code != 0 && se.Code != tt.code || se.BadAddress != tt.bad || se.Server != tt.server {
				t.Errorf("error %+v, want permanent %v, code %d, bad address %v, server %v", se, tt.permanent, tt.code, tt.bad, tt.server)
			}
		})
	}
}

func TestSMTPMailArrivesAsComposed(t *testing.T) {
	t.Parallel()
	srv := smtptest.Start(t, smtptest.Options{STARTTLS: true, RequireTLS: true, Username: "user", Password: password})
	m := compose(t, letter())
	if err := transport(t, srv.Host, srv.Port, trusting(srv, mailer.TLSMandatory)).Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := srv.Mails()[0]
	if got.From != "lamplighter@platform.example" || got.To != "kim@example.com" || !got.Secure || got.User != "user" {
		t.Errorf("came from %s to %s, secure %v, user %q", got.From, got.To, got.Secure, got.User)
	}
	if p := parse(t, got.Raw); p.text != m.Text || p.html != m.HTML || p.header.Get("Message-Id") != "<"+m.ID+">" {
		t.Errorf("arrived as\n%s", got.Raw)
	}
}

func TestSMTPTLS(t *testing.T) {
	t.Parallel()
	login := smtptest.Options{Username: "user", Password: password}
	withTLS := login
	withTLS.STARTTLS = true
	distrust := func(o *mailer.SMTPOptions) { o.TLSConfig = nil }
	for name, tt := range map[string]struct {
		server smtptest.Options
		mode   mailer.TLSMode
		change func(*mailer.SMTPOptions)
		secure bool
		fails  string
	}{
		"Mandatory":               {server: withTLS, mode: mailer.TLSMandatory, secure: true},
		"MandatoryNotOffered":     {server: login, mode: mailer.TLSMandatory, fails: "STARTTLS"},
		"MandatoryDistrusted":     {server: withTLS, mode: mailer.TLSMandatory, change: distrust, fails: "certificate"},
		"OpportunisticOffered":    {server: withTLS, mode: mailer.TLSOpportunistic, secure: true},
		"OpportunisticNot":        {server: login, mode: mailer.TLSOpportunistic},
		"OpportunisticDistrusted": {server: withTLS, mode: mailer.TLSOpportunistic, change: distrust, fails: "certificate"},
		"Implicit":                {server: smtptest.Options{ImplicitTLS: true, Username: "user", Password: password}, mode: mailer.TLSImplicit, secure: true},
		"ImplicitDistrusted":      {server: smtptest.Options{ImplicitTLS: true}, mode: mailer.TLSImplicit, change: distrust, fails: "certificate"},
		"None":                    {server: withTLS, mode: mailer.TLSNone},
		"WrongPassword": {
			server: withTLS, mode: mailer.TLSMandatory, fails: "535",
			change: func(o *mailer.SMTPOptions) { o.Password = secret.New("wrong-secret-word") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := smtptest.Start(t, tt.server)
			tr := transport(t, srv.Host, srv.Port, func(o *mailer.SMTPOptions) {
				trusting(srv, tt.mode)(o)
				if tt.change != nil {
					tt.change(o)
				}
			})
			err := tr.Send(t.Context(), compose(t, letter()))
			if tt.fails == "" {
				if err != nil || len(srv.Mails()) != 1 || srv.Mails()[0].Secure != tt.secure {
					t.Fatalf("%v, mails %+v; want it accepted, secure %v", err, srv.Mails(), tt.secure)
				}
				return
			}
			var se *mailer.SendError
			if !errors.As(err, &se) || se.Permanent || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("error %v, want a temporary one about %q", err, tt.fails)
			}
			if err != nil && (strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "wrong-secret-word")) {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

func TestSMTPEndsWithItsTimeAndContext(t *testing.T) {
	t.Parallel()
	srv := smtptest.Start(t, smtptest.Options{})
	srv.Answer(smtptest.Script{Hang: true})
	start := time.Now()
	slow := transport(t, srv.Host, srv.Port, func(o *mailer.SMTPOptions) { o.Timeout = 200 * time.Millisecond })
	var se *mailer.SendError
	if err := slow.Send(t.Context(), compose(t, letter())); !errors.As(err, &se) || se.Permanent {
		t.Errorf("a server that hangs: %v, want a temporary error", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := transport(t, srv.Host, srv.Port, nil).Send(ctx, compose(t, letter())); !errors.As(err, &se) || se.Permanent {
		t.Errorf("an ended context: %v, want a temporary error", err)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("took %v", took)
	}
	srv.Stop()
	if err := transport(t, srv.Host, srv.Port, nil).Send(t.Context(), compose(t, letter())); !errors.As(err, &se) || se.Permanent {
		t.Errorf("no server: %v, want a temporary error", err)
	}
}

func TestSMTPSettings(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]mailer.SMTPOptions{
		"NoMode": {Host: "mail.example", Port: 25}, "NoHost": {Port: 25, TLS: mailer.TLSNone}, "NoPort": {Host: "mail.example", Port: -1, TLS: mailer.TLSNone},
	} {
		if _, err := mailer.NewSMTP(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestRealServer sends through mailpit, with STARTTLS and a login.
func TestRealServer(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("mailpit")
	if err != nil {
		if path, err = filepath.Abs("../../.tools/mailpit"); err == nil {
			_, err = os.Stat(path)
		}
	}
	if err != nil {
		t.Fatal("mailpit is not built and this test needs a real mail server: run 'make tools'")
	}
	srv := smtptest.Start(t, smtptest.Options{}) // for its certificate alone
	dir := t.TempDir()
	cert, key := srv.WriteCertificate(t, dir)
	auth := filepath.Join(dir, "auth")
	if err := os.WriteFile(auth, []byte("user:"+password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ports := [2]int{}
	for i := range ports {
		if ports[i], err = redistest.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	web := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[1]))
	cmd := exec.CommandContext(t.Context(), path, "--database", filepath.Join(dir, "db"), "--smtp", net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])),
		"--listen", web, "--smtp-tls-cert", cert, "--smtp-tls-key", key, "--smtp-require-starttls", "--smtp-auth-file", auth,
		"--disable-version-check", "--smtp-disable-rdns", "--smtp-strict-rfc-headers", "--quiet")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	redistest.Eventually(t, 30*time.Second, "mailpit answers", func() bool {
		c, err := net.Dial("tcp", web)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	tr := transport(t, "127.0.0.1", ports[0], trusting(srv, mailer.TLSMandatory))
	m := compose(t, letter())
	redistest.Eventually(t, 30*time.Second, "mailpit accepts the mail", func() bool { return tr.Send(t.Context(), m) == nil })
	raw := fetch(t, "http://"+web+"/api/v1/message/latest/raw")
	if p := parse(t, raw); p.text != m.Text || p.html != m.HTML || p.header.Get("Message-Id") != "<"+m.ID+">" {
		t.Errorf("arrived as\n%s", raw)
	}
	bad := transport(t, "127.0.0.1", ports[0], func(o *mailer.SMTPOptions) {
		trusting(srv, mailer.TLSMandatory)(o)
		o.Password = secret.New("wrong-secret-word")
	})
	var se *mailer.SendError
	if err := bad.Send(t.Context(), m); !errors.As(err, &se) || se.Permanent {
		t.Errorf("a wrong password: %v, want a temporary error", err)
	}
}
