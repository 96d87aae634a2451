package service_test

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/config"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailer/smtptest"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// mailing runs a service that mails to a server of the test. Its app "app1" answers 410 with gone, so
// whatever is reported switches it off and is mailed at once.
func mailing(t *testing.T, rdb redis.UniversalClient, gone string) (*running, *smtptest.Server) {
	t.Helper()
	srv := smtptest.Start(t, smtptest.Options{})
	srv.Answer(smtptest.Script{Mails: 1}) // so that a later answer does not miss a connection that is kept
	cfg := settings(t)
	cfg.SMTP = config.SMTP{Host: srv.Host, Port: srv.Port, TLS: "none", From: "Lamplighter <lights@platform.example>", Timeout: 10 * time.Second}
	cfg.Mail.GatherFor, cfg.PublicURL = 0, "https://platform.example"
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(w, gone)
	}))
	t.Cleanup(receiver.Close)
	r := &running{T: t, rdb: rdb, hook: receiver.URL + "/hook"}
	r.base = "http://" + serve(t, rdb, cfg).Addr("api")
	return r, srv
}

// fails has app1 switched on, and off again by its next answer.
func (r *running) fails() {
	r.Helper()
	r.call("PATCH", "/v1/apps/app1/endpoints/state_change", `{"enabled":true}`)
	r.call("POST", "/v1/state-changes", `{"tenant":"a","change_type":"suspend"}`)
}

// ask asks as somebody and returns what was answered, whatever it was.
func (r *running) ask(method, path, bearer, contentType, body string) (int, string) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// letter is a mail as its reader sees it.
type letter struct {
	header     mail.Header
	text, html string
}

// awaitMail waits for the nth mail to an address.
func awaitMail(t *testing.T, srv *smtptest.Server, to string, n int) letter {
	t.Helper()
	var got []smtptest.Received
	redistest.Eventually(t, 30*time.Second, strconv.Itoa(n)+" mails to "+to, func() bool {
		got = mailsTo(srv, to)
		return len(got) >= n
	})
	m, err := mail.ReadMessage(strings.NewReader(got[n-1].Raw))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	l := letter{header: m.Header}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, into := range []*string{&l.text, &l.html} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		*into = strings.ReplaceAll(string(b), "\r\n", "\n")
	}
	if _, err := parts.NextPart(); !errors.Is(err, io.EOF) {
		t.Errorf("a third part: %v", err)
	}
	return l
}

func mailsTo(srv *smtptest.Server, to string) []smtptest.Received {
	var out []smtptest.Received
	for _, m := range srv.Mails() {
		if m.To == to {
			out = append(out, m)
		}
	}
	return out
}

// pathOf is the path of the link in a mail that leads to a page of ours.
func pathOf(t *testing.T, text, page string) string {
	t.Helper()
	link := regexp.MustCompile(`https://platform\.example/mail/` + page + `/[A-Za-z0-9_.~-]+`).FindString(text)
	u, err := url.Parse(link)
	if err != nil || link == "" {
		t.Fatalf("no link to %s in %s", page, text)
	}
	return u.Path
}

// TestMailDesk follows the links of real mails, on each Redis: an address that a partner sets has to be
// confirmed, one that unsubscribes hears no more while others do, and one that bounces is marked.
func TestMailDesk(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r, srv := mailing(t, rdb, "retired")
		const lee, ada, gone = "lee@example.com", "ada@example.com", "gone@example.com"
		r.call("PUT", "/v1/apps/app1", `{"name":"App","endpoints":{"state_change":{"url":"`+r.hook+`","enabled":true}}}`)
		r.call("PUT", "/v1/apps/app1/approvals/a", "")
		theirs, _ := r.call("POST", "/v1/tokens", `{"name":"Partner","role":"partner:app1"}`)["token"].(string)
		problems := func() string {
			_, text := r.ask("GET", "/v1/apps/app1", token, "", "")
			return text
		}

		if code, text := r.ask("PATCH", "/v1/apps/app1", theirs, "application/json", `{"error_emails":["`+lee+`"]}`); code != http.StatusOK {
			t.Fatalf("set an address: %d %s", code, text)
		}
		confirm := pathOf(t, awaitMail(t, srv, lee, 1).text, "confirm")
		for range 2 { // looking changes nothing
			if code, page := r.ask("GET", confirm, "", "", ""); code != http.StatusOK || !strings.Contains(page, `<form method="post">`) {
				t.Errorf("the page = %d %s", code, page)
			}
		}
		if code, _ := r.ask("POST", confirm+"A", "", "", ""); code != http.StatusNotFound || !strings.Contains(problems(), `"unconfirmed"`) {
			t.Errorf("a link that we did not make = %d, %s", code, problems())
		}
		if code, page := r.ask("POST", confirm, "", "application/x-www-form-urlencoded", ""); code != http.StatusOK || strings.Contains(problems(), "address_problems") {
			t.Fatalf("confirm = %d %s, %s", code, page, problems())
		}

		r.call("PATCH", "/v1/apps/app1", `{"error_emails":["`+lee+`","`+ada+`"]}`)
		r.fails()
		first := awaitMail(t, srv, lee, 2)
		awaitMail(t, srv, ada, 1)
		unsubscribe := pathOf(t, first.header.Get("List-Unsubscribe"), "unsubscribe")
		if first.header.Get("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" || !strings.Contains(first.text, "410 Gone") {
			t.Errorf("mail %v %s", first.header, first.text)
		}
		if code, _ := r.ask("GET", unsubscribe, "", "", ""); code != http.StatusOK {
			t.Errorf("the page = %d", code)
		}
		if code, _ := r.ask("POST", unsubscribe, "", "application/x-www-form-urlencoded", "List-Unsubscribe=One-Click"); code != http.StatusOK {
			t.Fatalf("one click = %d", code)
		}
		r.fails()
		awaitMail(t, srv, ada, 2)
		if n := len(mailsTo(srv, lee)); n != 2 {
			t.Errorf("the unsubscribed one has %d mails, want the 2 from before", n)
		}
		if code, _ := r.ask("POST", unsubscribe, "", "application/x-www-form-urlencoded", "undo=1"); code != http.StatusOK {
			t.Fatalf("taken back = %d", code)
		}
		r.fails()
		awaitMail(t, srv, lee, 3)

		r.call("PATCH", "/v1/apps/app1", `{"error_emails":["`+gone+`"]}`)
		srv.Answer(smtptest.Script{Rcpt: "550 5.1.1 no such user"})
		r.fails()
		redistest.Eventually(t, 30*time.Second, "the bounced one is marked", func() bool { return strings.Contains(problems(), `"state":"bounced"`) })
		if text := problems(); !strings.Contains(text, `"email":"`+gone+`"`) || !strings.Contains(text, `"code":550`) {
			t.Errorf("app = %s", text)
		}
	})
}

// TestQuestionsByMail follows the links of questions: one that is outdated says so and confirms nothing, one that is good
// confirms whenever its address is set, and whoever wants no questions gets none.
func TestQuestionsByMail(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r, srv := mailing(t, rdb, "retired")
		const lee = "lee@example.com"
		made := func() (set func(...string) string) {
			r.call("PUT", "/v1/apps/app1", `{"name":"App"}`)
			theirs, _ := r.call("POST", "/v1/tokens", `{"name":"Partner","role":"partner:app1"}`)["token"].(string)
			return func(addresses ...string) string {
				t.Helper()
				body := `{"error_emails":["` + strings.Join(addresses, `","`) + `"]}`
				if len(addresses) == 0 {
					body = `{"error_emails":[]}`
				}
				code, text := r.ask("PATCH", "/v1/apps/app1", theirs, "application/json", body)
				if code != http.StatusOK {
					t.Fatalf("set %v: %d %s", addresses, code, text)
				}
				return text
			}
		}
		visit := func(method, path string) (int, string) {
			return r.ask(method, path, "", "application/x-www-form-urlencoded", "")
		}
		set := made()
		set(lee)
		first := pathOf(t, awaitMail(t, srv, lee, 1).text, "confirm")
		for range 3 {
			set()
			if text := set(lee); !strings.Contains(text, "was asked on") || !strings.Contains(text, `"unconfirmed"`) {
				t.Errorf("set anew: %s", text)
			}
		}
		if code, page := visit("POST", first); code != http.StatusOK || !strings.Contains(page, "Confirmed") || strings.Contains(set(lee), "unconfirmed") {
			t.Errorf("the one link: %d %s", code, page)
		}

		r.call("DELETE", "/v1/apps/app1", "")
		for _, method := range []string{"GET", "POST"} {
			if code, page := visit(method, first); code != http.StatusGone || !strings.Contains(page, "outdated") {
				t.Errorf("%s of a link to an app that is gone: %d %s", method, code, page)
			}
		}
		set = made()
		set(lee)
		second := awaitMail(t, srv, lee, 2)
		for _, method := range []string{"GET", "POST"} {
			if code, page := visit(method, first); code != http.StatusGone || !strings.Contains(page, "Use the newest mail") {
				t.Errorf("%s of the outdated link: %d %s", method, code, page)
			}
		}
		if text := set(lee); !strings.Contains(text, "unconfirmed") {
			t.Errorf("an outdated link confirmed: %s", text)
		}
		never := pathOf(t, second.header.Get("List-Unsubscribe"), "never-ask")
		if code, page := visit("GET", never); code != http.StatusOK || !strings.Contains(page, `<form method="post">`) {
			t.Errorf("the page = %d %s", code, page)
		}
		if code, _ := r.ask("POST", never, "", "application/x-www-form-urlencoded", "List-Unsubscribe=One-Click"); code != http.StatusOK {
			t.Errorf("one click = %d", code)
		}
		set("lee+1@example.com", "ada@example.com")
		awaitMail(t, srv, "ada@example.com", 1)
		r.call("DELETE", "/v1/apps/app1", "")
		set = made()
		set(lee, "bo@example.com")
		awaitMail(t, srv, "bo@example.com", 1)
		redistest.Eventually(t, 30*time.Second, "the question to be dropped", func() bool {
			n, err := rdb.HGet(t.Context(), "lamplighter:{"+incident.ConfirmationQueue(lee)+"}:tray", "count").Int()
			return err == nil && n == 0
		})
		if n := len(mailsTo(srv, lee)) + len(mailsTo(srv, "lee+1@example.com")); n != 2 {
			t.Errorf("%d questions, want the 2 from before", n)
		}
		if code, _ := r.ask("POST", never, "", "application/x-www-form-urlencoded", "undo=1"); code != http.StatusOK {
			t.Errorf("taken back = %d", code)
		}
		if code, _ := visit("POST", pathOf(t, second.text, "confirm")); code != http.StatusGone {
			t.Errorf("a link of the life before = %d", code)
		}
	})
}

// TestHostileAddressesAreRefused: nothing of such a write is kept, and nothing of it is repeated.
func TestHostileAddressesAreRefused(t *testing.T) {
	t.Parallel()
	r := start(t)
	_, before := r.ask("GET", "/v1/apps/app1", token, "", "")
	many := strings.Repeat(`"a@b.example",`, 9999) + `"a@b.example"`
	for name, members := range map[string]string{
		"Header":          `"error_emails":["kim@example.com\r\nBcc: hunter2@example.com"]`,
		"Newline":         `"error_emails":["hunter2@example.com\n"]`,
		"Null":            `"error_emails":["hunter2\u0000@example.com"]`,
		"Comma":           `"error_emails":["kim@example.com,hunter2@example.com"]`,
		"Semicolon":       `"error_emails":["kim@example.com;hunter2@example.com"]`,
		"Quotes":          `"error_emails":["\"hunter2\"@example.com"]`,
		"QuotedSpace":     `"error_emails":["\"a hunter2\"@example.com"]`,
		"Name":            `"error_emails":["Hunter2 <kim@example.com>"]`,
		"Angles":          `"error_emails":["<hunter2@example.com>"]`,
		"Route":           `"error_emails":["@evil.example:hunter2@example.com"]`,
		"Percent":         `"error_emails":["hunter2@[127.0.0.1]"]`,
		"Override":        `"error_emails":["hunter2\u202e@example.com"]`,
		"Escape":          `"error_emails":["hunter2\u001b[31m@example.com"]`,
		"Many":            `"error_emails":[` + many + `]`,
		"ManyInOne":       `"error_emails":["` + strings.Repeat("hunter2@example.com,", 10_000) + `kim@example.com"]`,
		"Pipe":            `"error_emails":["|hunter2@example.com"]`,
		"Localhost":       `"error_emails":["hunter2@localhost"]`,
		"PrivateDomain":   `"error_emails":["hunter2@internal.corp"]`,
		"LookAlike":       `"error_emails":["huntеr2@example.com"]`,
		"ContactHeader":   `"technical_contact":{"email":"kim@example.com\nTo: hunter2@example.com"}`,
		"ContactName":     `"technical_contact":{"email":"kim@example.com","name":"Kim\r\nBcc: hunter2@example.com"}`,
		"ContactOverride": `"technical_contact":{"email":"kim@example.com","name":"\u202ehunter2"}`,
		"AppName":         `"name":"App\r\nBcc: hunter2@example.com"`,
		"AppNameNull":     `"name":"hunter2\u0000"`,
	} {
		code, answer := r.ask("PATCH", "/v1/apps/app1", token, "application/json", "{"+members+"}")
		if code != http.StatusUnprocessableEntity && code != http.StatusRequestEntityTooLarge || strings.Contains(strings.ToLower(answer), "hunter2") || len(answer) > 4<<10 {
			t.Errorf("%s = %d %.300s", name, code, answer)
		}
	}
	if code, answer := r.ask("PATCH", "/v1/apps/app1", token, "application/json", "{\"error_emails\":[\"a\xff@example.com\"]}"); code != http.StatusBadRequest && code != http.StatusUnprocessableEntity {
		t.Errorf("invalid UTF-8 = %d %s", code, answer)
	}
	if _, after := r.ask("GET", "/v1/apps/app1", token, "", ""); after != before {
		t.Errorf("the app was %s\nand is %s", before, after)
	}
}

// TestHostileAnswersStayInTheirPlace mails about an app whose name looks like a header and HTML, and
// whose endpoint answers with all that must neither reach a reader nor do anything to them.
func TestHostileAnswersStayInTheirPlace(t *testing.T) {
	t.Parallel()
	secrets := []string{"hunter2secret", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJDdXN0MTIzNDUifQ.c2lnbmF0dXJl", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
	r, srv := mailing(t, redistest.Mini(t), "Set-Cookie: session="+secrets[0]+"\r\nAuthorization: Bearer "+secrets[1]+"\r\n"+secrets[2]+
		"<script>alert(1)</script><img src=https://evil.example/x>\x1b[31m\u202Egnp.exe\u2066\x00\xff\xfe\r\n\r\n.\r\nRCPT TO:<victim@example.com>\r\n--lamplighter-boundary\r\n")
	const name = `Bcc: victim@example.com, \"><img src=x onerror=alert(1)><b>`
	r.call("PUT", "/v1/apps/app1", `{"name":"`+name+`","technical_contact":{"name":"Kim, \"x\" <eve@example.com>","email":"kim@example.com"},"endpoints":{"state_change":{"url":"`+r.hook+`?token=`+secrets[0]+`","enabled":true}}}`)
	r.call("PUT", "/v1/apps/app1/approvals/a", "")
	r.fails()
	m := awaitMail(t, srv, "kim@example.com", 1)
	if len(srv.Mails()) != 1 || m.header.Get("Bcc") != "" || m.header.Get("To") != "<kim@example.com>" || len(m.header["Subject"]) != 1 {
		t.Errorf("%d mails, header %v", len(srv.Mails()), m.header)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.header.Get("Subject"))
	if err != nil || !strings.HasPrefix(subject, "[Lamplighter] Bcc: victim@example.com, ") {
		t.Errorf("subject %q, %v", subject, err)
	}
	for _, part := range []string{subject, m.text, m.html} {
		for _, s := range secrets {
			if strings.Contains(part, s) {
				t.Errorf("%s is shown in %s", s, part)
			}
		}
		for _, c := range part {
			if c != '\n' && (unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c)) {
				t.Errorf("%U is in %q", c, part)
			}
		}
		for line := range strings.Lines(part) {
			if strings.HasPrefix(line, "Bcc:") && part != subject {
				// The headline of the text may begin with the name; a header ends before it.
				continue
			}
			if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "RCPT") {
				t.Errorf("the line %q", line)
			}
		}
	}
	for _, bad := range []string{"<script", "<img", "onerror=alert(1)>", "<b>"} {
		if strings.Contains(m.html, bad) {
			t.Errorf("the HTML holds %s", bad)
		}
	}
	if !strings.Contains(m.text, "[redacted]") {
		t.Errorf("nothing says that something was left out:\n%s", m.text)
	}
}
