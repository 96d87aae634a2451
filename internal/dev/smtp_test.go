package dev_test

import (
	"bufio"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"testing"

	gomail "github.com/wneessen/go-mail"

	"github.com/lamplighter/lamplighter/internal/dev"
)

func startCatcher(t *testing.T) *dev.Catcher {
	t.Helper()
	c, err := dev.StartCatcher(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestCatcherShowsTheTextPart(t *testing.T) {
	t.Parallel()
	c := startCatcher(t)
	if got := c.Show(); got != "No mail yet.\n" {
		t.Errorf("without mail: %q", got)
	}
	m := gomail.NewMsg()
	for _, err := range []error{m.From("a@b.example"), m.To("Kim <kim@example.com>")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.Subject("Grüße: it failed")
	m.SetBodyString(gomail.TypeTextPlain, "Blåbær, a line that is long enough to be folded by quoted-printable, since it goes on and on.\n.\nafter a dot")
	m.AddAlternativeString(gomail.TypeTextHTML, "<b>not this</b>")
	client, err := gomail.NewClient("127.0.0.1", gomail.WithPort(c.Port()), gomail.WithTLSPolicy(gomail.NoTLS))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.DialAndSendWithContext(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := c.Show()
	for _, want := range []string{
		"mail 1 of 1", "To: kim@example.com\n", "Subject: Grüße: it failed\n",
		"Blåbær, a line that is long enough to be folded by quoted-printable, since it goes on and on.\n.\nafter a dot",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "not this") {
		t.Errorf("the HTML part is shown:\n%s", got)
	}
}

func TestCatcherReadsEveryShapeOfMail(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ raw, want, not string }{
		"NoType":     {"Subject: s\r\n\r\nplain\r\n", "Subject: s\n\nplain", ""},
		"Base64":     {"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\naGVs\r\nbG8=\r\n", "\n\nhello\n", ""},
		"HTMLAlone":  {"Content-Type: text/html\r\n\r\n<b>x</b>\r\n", "no text part", "<b>"},
		"BrokenType": {"Content-Type: ;\r\n\r\nx\r\n", "no text part", ""},
		"NoMail":     {"no header\r\n", "(not a mail)", ""},
		"Terminal":   {"Subject: a\x1b[2Jb\r\n\r\n\x1b]0;x\x07body\r\n", "Subject: a[2Jb\n", "\x1b"},
		"Nested": {
			"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n" +
				"--i\r\nContent-Type: text/html\r\n\r\n<b>\r\n--i\r\n\r\ninner\r\n--i--\r\n--o--\r\n", "\n\ninner\n", "<b>",
		},
		"NoEnd": {"Content-Type: multipart/mixed; boundary=o\r\n\r\nnothing\r\n", "no text part", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCatcher(t)
			if err := smtp.SendMail(c.Addr(), nil, "a@b.example", []string{"c@d.example"}, []byte(tc.raw)); err != nil {
				t.Fatal(err)
			}
			if got := c.Show(); !strings.Contains(got, tc.want) || tc.not != "" && strings.Contains(got, tc.not) {
				t.Errorf("shown:\n%q\nwant %q and not %q", got, tc.want, tc.not)
			}
		})
	}
}

func TestCatcherKeepsTheLastFifty(t *testing.T) {
	t.Parallel()
	c := startCatcher(t)
	for i := range 52 {
		if err := smtp.SendMail(c.Addr(), nil, "a@b.example", []string{"c@d.example"}, fmt.Appendf(nil, "Subject: n%d.\r\n\r\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	got := c.Show()
	if strings.Contains(got, "n1.") || !strings.Contains(got, "n2.") || !strings.Contains(got, "mail 50 of 50") || !strings.Contains(got, "n51.") {
		t.Errorf("shown:\n%s", got)
	}
}

func TestCatcherAnswersAsAMailServer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lines []string
		want  string
	}{
		"Unknown":        {[]string{"VRFY x"}, "502"},
		"Help":           {[]string{"helo me"}, "250"},
		"RcptFirst":      {[]string{"RCPT TO:<a@b>"}, "503"},
		"RcptShort":      {[]string{"MAIL FROM:<>", "RCPT"}, "501"},
		"RcptOther":      {[]string{"MAIL FROM:<>", "RCPT FROM:<a@b>"}, "501"},
		"RcptUnclosed":   {[]string{"MAIL FROM:<>", "RCPT TO:<a@b"}, "501"},
		"Rcpt":           {[]string{"MAIL FROM:<>", "RCPT to: <a@b> NOTIFY=NEVER"}, "250"},
		"DataFirst":      {[]string{"MAIL FROM:<>", "DATA"}, "503"},
		"ResetForgets":   {[]string{"MAIL FROM:<>", "RCPT TO:<a@b>", "RSET", "DATA"}, "503"},
		"TooManyForOne":  {append([]string{"MAIL FROM:<>"}, many("RCPT TO:<a@b>", 101)...), "452"},
		"TooBig":         {[]string{"MAIL FROM:<>", "RCPT TO:<a@b>", "DATA", strings.Repeat(strings.Repeat("x", 99)+"\r\n", 11_000) + "."}, "552"},
		"NothingOfQuit2": {[]string{"NOOP", "quit"}, "221"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", startCatcher(t).Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			text := textproto.NewReader(bufio.NewReader(conn))
			answer := func() string {
				line, err := text.ReadLine()
				if err != nil {
					t.Fatal(err)
				}
				return line
			}
			got := answer() // the greeting
			for _, line := range tc.lines {
				if _, err := fmt.Fprintf(conn, "%s\r\n", line); err != nil {
					t.Fatal(err)
				}
				got = answer()
			}
			if !strings.HasPrefix(got, tc.want) {
				t.Errorf("answer %q, want %s", got, tc.want)
			}
		})
	}
}

func many(line string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = line
	}
	return out
}

func TestCatcherCloseCutsSessions(t *testing.T) {
	t.Parallel()
	c, err := dev.StartCatcher(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c.Close() // returns, although a client is there
}
