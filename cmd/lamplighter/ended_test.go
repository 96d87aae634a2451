package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/mailer/smtptest"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/signing"
)

// TestCertificatesThatEnded: each is refused with what it is of, and since when.
func TestCertificatesThatEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text, err := signing.GenerateKey(signing.RS256, "lights", time.Now().AddDate(-1, 0, 0), time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "signing.pem")
	if err := os.WriteFile(key, text, 0o600); err != nil {
		t.Fatal(err)
	}
	pair := redistest.NewAuthority(t, -time.Minute)
	mail := smtptest.Start(t, smtptest.Options{STARTTLS: true, Ended: true})
	ca, _ := mail.WriteCertificate(t, dir)
	today := time.Now().Add(-time.Minute).UTC().Format("2006-01-02T")
	for name, tt := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"SigningKey": {
			[]string{"config", "check", "--signing-keys", key}, exitUsage, []string{"signing.keys (flag --signing-keys): ", " expired at " + today},
		},
		"ClientOfRedis": {
			[]string{"config", "check", "--redis-url", "rediss://127.0.0.1:1", "--redis-tls-cert", pair.Cert, "--redis-tls-key", pair.Key},
			exitUsage,
			[]string{"redis: redis.tls.cert: the certificate in " + pair.Cert + " ended on " + today, ": renew it"},
		},
		"MailServer": {
			[]string{
				"mail", "test", "--to", "kim@example.com", "--smtp-host", mail.Host, "--smtp-port", strconv.Itoa(mail.Port), "--smtp-ca", ca,
				"--smtp-from", "Lamplighter <lights@platform.example>",
			}, exitFailed, []string{"FAILED  tls", `The certificate "CN=smtptest" ended on ` + today, "renewed on the server"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			code := run(tt.args, &out, &errs)
			said := out.String() + errs.String()
			for _, s := range tt.says {
				if !strings.Contains(said, s) {
					t.Errorf("does not say %q", s)
				}
			}
			if code != tt.code || t.Failed() {
				t.Errorf("exit code %d, said\n%s", code, said)
			}
		})
	}
}
