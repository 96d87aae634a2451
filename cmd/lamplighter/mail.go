package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/service"
)

type mailCmd struct {
	Preview mailPreviewCmd `cmd:"" help:"Write samples of all mails as .txt, .html and .eml; sends nothing."`
	Test    mailTestCmd    `cmd:"" help:"Send one mail by the settings and show each step; exits with 1 if it is not accepted."`
}

// sampleURL is the base of the links in samples when public_url is not set.
const sampleURL = "https://lamplighter.example"

type mailPreviewCmd struct {
	settingFlags
	Out      string `required:"" short:"o" placeholder:"DIR" help:"Directory to write to; it is created if necessary, and files of an earlier preview are replaced."`
	To       string `default:"kim@partner.example" placeholder:"ADDRESS" help:"Recipient in the mails."`
	TimeZone string `placeholder:"ZONE" help:"The recipient's time zone, such as Europe/Oslo; UTC when unset."`
}

// Run writes the mails, signed if the settings say so. Their links do not work.
func (c *mailPreviewCmd) Run(a *commandEnv) error {
	l, err := c.loadSettings(a, nil)
	if err != nil {
		return err
	}
	if _, err := time.LoadLocation(c.TimeZone); err != nil {
		return usageError{fmt.Errorf("--time-zone: %w", err)}
	}
	base := cmp.Or(l.Config.PublicURL, sampleURL)
	composer, err := mailer.NewComposer(cmp.Or(l.Config.SMTP.From, "Lamplighter <lamplighter@lamplighter.example>"), mailer.LinkMaker{
		Unsubscribe:        func(string, []partner.ClientID) string { return base + "/mail/unsubscribe/preview" },
		Confirm:            func(*incident.Mail) string { return base + "/mail/confirm/preview" },
		BlockConfirmations: func(string) string { return base + "/mail/never-ask/preview" },
	})
	if err != nil {
		return err
	}
	signer, err := service.NewSigner(l.Config.SMTP)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Out, 0o750); err != nil {
		return fmt.Errorf("write mails: %w", err)
	}
	samples := mailer.MakeSamples(mailer.SampleOptions{To: c.To, Environment: partner.Environment(l.Config.Environment), TimeZone: c.TimeZone})
	for i := range samples {
		m, err := samples[i].Compose(composer)
		if err != nil {
			return err
		}
		if err := writeMail(filepath.Join(c.Out, samples[i].Name), m, signer); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s: %s\n", samples[i].Name, m.Subject)
	}
	return nil
}

// writeMail writes a mail in its three forms.
func writeMail(name string, m *mailer.Message, signer *mailer.Signer) error {
	var eml bytes.Buffer
	if err := m.WriteEML(&eml, signer); err != nil {
		return err
	}
	for end, content := range map[string][]byte{".txt": []byte("Subject: " + m.Subject + "\n\n" + m.Text), ".html": []byte(m.HTML), ".eml": eml.Bytes()} {
		if err := os.WriteFile(name+end, content, 0o600); err != nil {
			return fmt.Errorf("write mail: %w", err)
		}
	}
	return nil
}

type mailTestCmd struct {
	settingFlags
	To string `required:"" placeholder:"ADDRESS" help:"The recipient of the mail."`
}

// Run sends the mail as the service would, over a separate connection.
func (c *mailTestCmd) Run(ctx context.Context, a *commandEnv) error {
	l, err := c.loadSettings(a, nil)
	if err != nil {
		return err
	}
	if err := checkMailSettings(l); err != nil {
		return err
	}
	s := l.Config.SMTP
	composer, err := mailer.NewComposer(s.From, mailer.LinkMaker{})
	if err != nil {
		return err
	}
	m, err := composer.ComposeTest(c.To, partner.Environment(l.Config.Environment), time.Now())
	if err != nil {
		return usageError{fmt.Errorf("--to: %w", err)}
	}
	transport, err := service.NewSMTP(s, nil)
	if err != nil {
		return err
	}
	tell := func(ok bool, stage, detail, advice string) {
		mark := "ok    "
		if !ok {
			mark = "FAILED"
		}
		fmt.Fprintf(a.stdout, "%s  %-9s  %s\n", mark, stage, detail)
		if advice != "" {
			fmt.Fprintf(a.stdout, "%19s%s\n", "", advice)
		}
	}
	tell(true, "settings", describeSMTP(&s), "")
	if err := transport.SendWithSteps(ctx, m, func(st mailer.StageResult) { tell(st.OK, string(st.Stage), st.Detail, st.Advice) }); err != nil {
		return errors.New("the mail was not sent")
	}
	fmt.Fprintf(a.stdout, "The mail %s was accepted for %s.\n", m.ID, m.To)
	return nil
}

// checkMailSettings checks only the settings for sending mail.
func checkMailSettings(l *config.Loaded) error {
	if l.Config.SMTP.Disabled {
		return usageError{errors.New("smtp.disabled is true: this deployment sends no mail")}
	}
	var problems config.Problems
	if err := l.CheckServe(); err != nil && !errors.As(err, &problems) {
		return err
	}
	problems = slices.DeleteFunc(problems, func(p config.Problem) bool { return !strings.HasPrefix(p.Key, "smtp.") })
	return problems.AsError()
}

// describeSMTP describes in one line how mail is sent.
func describeSMTP(s *config.SMTP) string {
	parts := []string{net.JoinHostPort(s.Host, strconv.Itoa(s.Port)), "TLS " + s.TLS, "from " + s.From}
	if s.Username != "" {
		parts = append(parts, "login as "+s.Username)
	}
	if s.DKIM.Key != "" {
		parts = append(parts, "signed by DKIM selector "+s.DKIM.Selector)
	}
	return strings.Join(parts, ", ")
}
