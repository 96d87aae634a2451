package mailer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/mailer/smtptest"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// TestExplain has each stage fail in turn, and the whole succeed.
func TestExplain(t *testing.T) {
	t.Parallel()
	secure := smtptest.Options{STARTTLS: true, Username: "user", Password: password}
	plain := smtptest.Options{}
	mandatory := func(s *smtptest.Server) func(*mailer.SMTPOptions) { return trusting(s, mailer.TLSMandatory) }
	for name, tt := range map[string]struct {
		server smtptest.Options
		script smtptest.Script
		change func(*smtptest.Server) func(*mailer.SMTPOptions)
		// fails is the stage that does, empty for none; says is in its advice, or in what went well.
		fails mailer.Stage
		says  string
		stop  bool
	}{
		"All":            {server: secure, change: mandatory, says: "logged in as user"},
		"Plain":          {server: plain, says: "smtp.tls is none"},
		"Implicit":       {server: smtptest.Options{ImplicitTLS: true}, change: func(s *smtptest.Server) func(*mailer.SMTPOptions) { return implicit(s, true) }, says: "TLS 1.3"},
		"NotImplicit":    {server: plain, change: func(s *smtptest.Server) func(*mailer.SMTPOptions) { return implicit(s, true) }, fails: mailer.StageTLS, says: "TLS 1.2 or newer"},
		"Opportunistic":  {server: plain, change: func(*smtptest.Server) func(*mailer.SMTPOptions) { return opportunistic }, says: "offers no STARTTLS"},
		"Distrusted":     {server: smtptest.Options{ImplicitTLS: true}, change: func(s *smtptest.Server) func(*mailer.SMTPOptions) { return implicit(s, false) }, fails: mailer.StageTLS, says: "set smtp.ca"},
		"NobodyThere":    {server: plain, stop: true, fails: mailer.StageConnect, says: "Nothing takes connections"},
		"NoName":         {server: plain, change: func(*smtptest.Server) func(*mailer.SMTPOptions) { return nameless }, fails: mailer.StageConnect, says: "cannot be looked up"},
		"Greeting":       {server: plain, script: smtptest.Script{Greeting: "554 no"}, fails: mailer.StageGreeting, says: "accepts connections from this machine"},
		"NoSTARTTLS":     {server: plain, change: mandatory, fails: mailer.StageTLS, says: "offers no STARTTLS"},
		"WrongPassword":  {server: smtptest.Options{STARTTLS: true, Username: "user", Password: "other"}, change: mandatory, fails: mailer.StageLogin, says: "smtp.password"},
		"NoLogin":        {server: smtptest.Options{STARTTLS: true}, change: mandatory, fails: mailer.StageLogin, says: "offers no safe login"},
		"Sender":         {server: secure, change: mandatory, script: smtptest.Script{Mail: "550 5.7.1 not you"}, fails: mailer.StageSender, says: "smtp.from"},
		"NoMailbox":      {server: secure, change: mandatory, script: smtptest.Script{Rcpt: "550 5.1.1 who?"}, fails: mailer.StageRecipient, says: "no such mailbox"},
		"Relay":          {server: secure, change: mandatory, script: smtptest.Script{Rcpt: "550 5.7.1 relaying denied"}, fails: mailer.StageRecipient, says: "does not accept mail to this recipient"},
		"Greylisted":     {server: secure, change: mandatory, script: smtptest.Script{Rcpt: "450 4.7.1 later"}, fails: mailer.StageRecipient, says: "greylisting"},
		"Content":        {server: secure, change: mandatory, script: smtptest.Script{Done: "554 5.7.1 spam"}, fails: mailer.StageContent, says: "spam filter"},
		"ControlAnswers": {server: secure, change: mandatory, script: smtptest.Script{Rcpt: "550 5.1.1 \x1b[31mwho\u202E?"}, fails: mailer.StageRecipient, says: "no such mailbox"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := smtptest.Start(t, tt.server)
			srv.Answer(tt.script)
			if tt.stop {
				srv.Stop()
			}
			var change func(*mailer.SMTPOptions)
			if tt.change != nil {
				change = tt.change(srv)
			}
			var steps []mailer.StageResult
			err := transport(t, srv.Host, srv.Port, change).SendWithSteps(t.Context(), compose(t, letter()), func(s mailer.StageResult) { steps = append(steps, s) })
			said := fmt.Sprintf("%+v", steps)
			if !strings.Contains(said, tt.says) || strings.Contains(said, password) || strings.ContainsAny(said, "\x1b\u202E") {
				t.Errorf("said %s, want %q", said, tt.says)
			}
			last := steps[len(steps)-1]
			if tt.fails != "" {
				if err == nil || last.OK || last.Stage != tt.fails || last.Advice == "" || len(srv.Mails()) != 0 {
					t.Errorf("%v; ended with %+v, want %s to fail", err, last, tt.fails)
				}
				return
			}
			var stages []mailer.Stage
			for _, s := range steps {
				stages = append(stages, s.Stage)
			}
			slices.Sort(stages)
			want := mailer.AllStages()
			slices.Sort(want)
			if err != nil || !slices.Equal(stages, want) || len(srv.Mails()) != 1 {
				t.Errorf("%v; stages %v, %d mails", err, stages, len(srv.Mails()))
			}
		})
	}
}

func implicit(s *smtptest.Server, trusted bool) func(*mailer.SMTPOptions) {
	return func(o *mailer.SMTPOptions) {
		o.TLS = mailer.TLSImplicit
		if trusted {
			o.TLSConfig = s.ClientTLS()
		}
	}
}

func opportunistic(o *mailer.SMTPOptions) { o.TLS = mailer.TLSOpportunistic }

func nameless(o *mailer.SMTPOptions) {
	o.Host, o.Username, o.Password = "no-such-host.invalid", "", secret.Text{}
}

// TestExplainTellsWhatIsNoMail: a mail that cannot be written is told as a stage that fails, too.
func TestExplainTellsWhatIsNoMail(t *testing.T) {
	t.Parallel()
	srv := smtptest.Start(t, smtptest.Options{})
	var steps []mailer.StageResult
	m := compose(t, letter())
	m.To = "nobody"
	err := transport(t, srv.Host, srv.Port, nil).SendWithSteps(t.Context(), m, func(s mailer.StageResult) { steps = append(steps, s) })
	if err == nil || len(steps) != 1 || steps[0].OK || steps[0].Stage != mailer.StageContent || steps[0].Advice == "" || !strings.HasPrefix(steps[0].Detail, "compose: ") {
		t.Errorf("%v, told %+v", err, steps)
	}
}
