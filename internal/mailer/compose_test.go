package mailer_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var since = time.Date(2026, 11, 20, 20, 3, 0, 0, time.UTC)

func composer(t testing.TB, links mailer.LinkMaker) *mailer.Composer {
	t.Helper()
	c, err := mailer.NewComposer("Lamplighter <lamplighter@platform.example>", links)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func compose(t testing.TB, l incident.Mail) *mailer.Message {
	t.Helper()
	m, err := composer(t, mailer.LinkMaker{}).Compose(&l)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// letter is an opened mail of a state-change endpoint.
func letter() incident.Mail {
	return incident.Mail{
		Recipient: incident.Recipient{
			To: "kim@example.com", ClientID: "app1", AppName: "Awesome App", Environment: partner.Online,
			URL: "https://partner.example/hook", TimeZone: "Europe/Oslo",
		},
		Kind: incident.KindOpened, Incident: incident.NewID("app1", partner.StateChange, since), N: 1,
		At: since.Add(5 * time.Minute), Since: since,
		Failure:     &incident.PublicFailure{Reason: delivery.ReasonServerError, Status: 503, At: since.Add(4 * time.Minute)},
		Backlog:     incident.Backlog{Notifications: 212, Tenants: 200, Superseded: 1},
		SwitchOffAt: since.Add(120 * time.Hour),
	}
}

func letters() map[string]incident.Mail {
	all := map[string]incident.Mail{"opened": letter()}

	l := letter()
	l.Reopened, l.Previous = 1, incident.NewID("app1", partner.StateChange, since.Add(-time.Hour))
	all["opened_again"] = l

	l = letter()
	l.TimeZone = ""
	l.Tenants = []tenant.ID{"Cust1", "Cust2"}
	l.Failure = &incident.PublicFailure{Reason: delivery.ReasonClientError, Status: 422, At: since}
	l.SwitchOffAt = time.Time{}
	all["opened_rejected"] = l

	l = letter()
	l.Tenants, l.SwitchOffAt, l.NextTry = []tenant.ID{"Cust1"}, time.Time{}, time.Time{}
	all["opened_for_some"] = l

	l = letter()
	l.Endpoint, l.SwitchOffAt, l.NextTry = partner.Mirroring, time.Time{}, since.Add(9*time.Hour)
	l.Failure = &incident.PublicFailure{Reason: delivery.ReasonTLS, At: since}
	all["opened_mirroring"] = l

	l = letter()
	l.Kind, l.N, l.First, l.After = incident.KindReminder, 2, 1, 1
	l.At = since.Add(24 * time.Hour)
	all["reminder"] = l

	l = letter()
	l.Kind, l.N, l.First, l.After = incident.KindSwitchedOff, 4, 1, 3
	l.At, l.OffReason, l.SwitchOffAt = since.Add(120*time.Hour), partner.OffFailing, time.Time{}
	all["switched_off"] = l

	l = letter()
	l.Kind, l.OffReason, l.SwitchOffAt = incident.KindSwitchedOff, partner.OffGone, time.Time{}
	l.Failure = &incident.PublicFailure{Reason: delivery.ReasonGone, Status: 410, At: since}
	all["switched_off_gone"] = l

	l = letter()
	l.Kind, l.N, l.First, l.After = incident.KindRecovered, 2, 1, 1
	l.EndedAt, l.At, l.Flaps, l.SwitchOffAt = since.Add(83*time.Minute), since.Add(84*time.Minute), 1, time.Time{}
	all["recovered"] = l

	l = letter()
	l.Kind, l.N, l.First, l.After = incident.KindClosed, 2, 1, 1
	l.At, l.SwitchOffAt = since.Add(84*time.Minute), time.Time{}
	all["closed"] = l
	l.OffReason = partner.OffGone
	all["closed_off"] = l
	l.Endpoint, l.OffReason = partner.ERPSync, partner.OffFailing
	all["closed_off_erp"] = l

	to := letter().Recipient
	ends := since.Add(21 * 24 * time.Hour)
	l = incident.Mail{
		Recipient: to, Kind: incident.KindCertificate, Incident: incident.NewWarningID("app1", partner.Mirroring, ends), Endpoint: partner.Mirroring, N: 1,
		At: since.Add(time.Hour), Since: since.Add(time.Hour), CertificateEnds: ends,
	}
	all["certificate"] = l

	l = incident.Mail{Recipient: to, Kind: incident.KindConfirm, Incident: incident.NewConfirmationID("app1", since), N: 1, At: since, Since: since}
	all["confirm"] = l

	l = letter()
	l.Endpoint, l.SwitchOffAt = partner.ERPSync, time.Time{}
	l.Failure.Source = incident.SourceReport
	l.Reported, l.Affected, l.AffectedMore = 1200, []tenant.ID{"Cust1", "Cust2"}, true
	all["opened_reported"] = l

	l = letter()
	l.Failure = &incident.PublicFailure{Reason: delivery.ReasonTimeout, At: since.Add(29 * time.Minute)}
	l.CommonSince, l.At = since, since.Add(30*time.Minute)
	all["opened_together"] = l
	return all
}

// TestNextCheck: what a mail says about the next probe is so whatever paces probes.
func TestNextCheck(t *testing.T) {
	t.Parallel()
	for want, next := range map[string]time.Duration{
		"\n- You can test it yourself at any time.\n":                                                   0,
		"\n- It is checked again within two minutes; you can test it yourself at any time.\n":           2 * time.Minute,
		"\n- It is checked again on Fri 20 Nov 2026 21:10 CET; you can test it yourself at any time.\n": 2*time.Minute + time.Millisecond,
		"\n- It is checked again on Sat 21 Nov 2026 21:08 CET; you can test it yourself at any time.\n": 24 * time.Hour,
	} {
		for _, k := range []partner.EndpointKind{partner.ERPSync, partner.QuoteConnector, partner.Mirroring} {
			l := letter()
			l.Endpoint = k
			if next != 0 {
				l.NextTry = l.At.Add(next)
			}
			if text := compose(t, l).Text; !strings.Contains(text, want) {
				t.Errorf("%s in %v: no %q in\n%s", k, next, want, text)
			}
		}
	}
}

func TestGoldenMails(t *testing.T) {
	t.Parallel()
	covered := map[incident.Kind]bool{}
	for name, l := range letters() {
		covered[l.Kind] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := composer(t, mailer.LinkMaker{
				Confirm:            func(*incident.Mail) string { return "https://platform.example/mail/confirm/abc" },
				BlockConfirmations: func(string) string { return "https://platform.example/mail/never-ask/abc" },
			}).Compose(&l)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".txt", "Subject: "+m.Subject+"\n\n"+m.Text)
			golden(t, name+".html", m.HTML)
		})
	}
	for _, k := range incident.AllKinds() {
		if !covered[k] {
			t.Errorf("no golden mail of kind %s", k)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run the test with -update to write it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs; run with -update if that is meant (-want +got):\n%s", name, diff)
	}
}

// parsed is a mail as a reader sees it.
type parsed struct {
	header     mail.Header
	text, html string
}

func eml(t testing.TB, m *mailer.Message) string {
	t.Helper()
	var b bytes.Buffer
	if err := m.WriteEML(&b, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func parse(t testing.TB, raw string) parsed {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %q, %v", kind, err)
	}
	p := parsed{header: m.Header}
	r := multipart.NewReader(m.Body, params["boundary"])
	for _, part := range []struct {
		kind string
		to   *string
	}{{"text/plain", &p.text}, {"text/html", &p.html}} {
		next, err := r.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := mime.ParseMediaType(next.Header.Get("Content-Type")); got != part.kind {
			t.Fatalf("part is %s, want %s", got, part.kind)
		}
		b, err := io.ReadAll(next)
		if err != nil {
			t.Fatal(err)
		}
		*part.to = strings.ReplaceAll(string(b), "\r\n", "\n")
	}
	if _, err := r.NextPart(); !errors.Is(err, io.EOF) {
		t.Fatalf("a third part, %v", err)
	}
	return p
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	c := composer(t, mailer.LinkMaker{Unsubscribe: func(string, []partner.ClientID) string { return "https://platform.example/mail/unsubscribe/abc" }})
	first := letter()
	later := letters()["recovered"]
	m1, err := c.Compose(&first)
	if err != nil {
		t.Fatal(err)
	}
	m2, err := c.Compose(&later)
	if err != nil {
		t.Fatal(err)
	}
	p1, p2 := parse(t, eml(t, m1)), parse(t, eml(t, m2))
	for name, want := range map[string]string{
		"From": `"Lamplighter" <lamplighter@platform.example>`, "To": "<kim@example.com>", "Auto-Submitted": "auto-generated",
		"X-Auto-Response-Suppress": "All", "List-Unsubscribe": "<https://platform.example/mail/unsubscribe/abc>",
		"List-Unsubscribe-Post": "List-Unsubscribe=One-Click", "In-Reply-To": "", "References": "",
		"Subject": "[Lamplighter] Awesome App (online): state change endpoint failing since 20 Nov 21:03 CET",
		"Date":    "Fri, 20 Nov 2026 20:08:00 +0000",
	} {
		if got := p1.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	id := p1.header.Get("Message-Id")
	if !strings.HasSuffix(id, ".1@platform.example>") || len("Message-ID: "+id) > 76 {
		t.Errorf("Message-ID %s", id)
	}
	if p2.header.Get("In-Reply-To") != id || p2.header.Get("References") != id || p2.header.Get("Message-Id") == id {
		t.Errorf("the recovery %s answers %s, refers to %s, want %s", p2.header.Get("Message-Id"),
			p2.header.Get("In-Reply-To"), p2.header.Get("References"), id)
	}
	if !strings.Contains(p1.text, "Unsubscribe: https://platform.example/mail/unsubscribe/abc") ||
		!strings.Contains(p1.html, `href="https://platform.example/mail/unsubscribe/abc"`) {
		t.Error("the link is not in the mail's end")
	}
	if plain := parse(t, eml(t, compose(t, letter()))); plain.header.Get("List-Unsubscribe") != "" || strings.Contains(plain.text, "nsubscribe") {
		t.Error("a link although there is none")
	}
	if p1.text != m1.Text || p1.html != m1.HTML {
		t.Error("the parts do not survive the mail's encoding")
	}
}

func TestTheSameLetterIsTheSameMail(t *testing.T) {
	t.Parallel()
	if a, b := eml(t, compose(t, letter())), eml(t, compose(t, letter())); a != b {
		t.Errorf("differs:\n%s", cmp.Diff(a, b))
	}
}

func TestReopenedIsThreadedWithTheIncidentBefore(t *testing.T) {
	t.Parallel()
	l := letters()["opened_again"]
	m := compose(t, l)
	before := letter()
	before.Incident = l.Previous
	want := compose(t, before).ID
	if diff := cmp.Diff([]string{want}, m.References); diff != "" || m.InReplyTo != "" {
		t.Errorf("in reply to %q, references (-want +got):\n%s", m.InReplyTo, diff)
	}
}

func TestNothingIsInjected(t *testing.T) {
	t.Parallel()
	evil := "Evil\r\nBcc: victim@example.com\r\n\r\n<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x00\u202Egnp.exe\u2066\x1b[31m \xff"
	l := letter()
	l.AppName, l.URL, l.Environment, l.TimeZone = evil, evil, partner.Environment(evil), evil
	l.Tenants = []tenant.ID{tenant.ID(evil)}
	m := compose(t, l)
	raw := eml(t, m)
	p := parse(t, raw)
	if p.header.Get("Bcc") != "" || strings.Contains(raw[:strings.Index(raw, "\r\n\r\n")], "victim@example.com\r\n") {
		t.Errorf("a header was injected:\n%s", raw)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(p.header.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{subject, p.text, p.html} {
		for _, r := range s {
			if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
				t.Fatalf("control character %U in %q", r, s)
			}
		}
	}
	if strings.Contains(p.html, "<script") || strings.Contains(p.html, "<img") || strings.Contains(p.html, `"'>`) {
		t.Errorf("HTML was injected:\n%s", p.html)
	}
	for line := range strings.Lines(p.text) {
		if strings.HasPrefix(line, "Bcc:") {
			t.Errorf("a line was injected: %s", line)
		}
	}
}

// TestNothingOfTheFailureIsInAMail: what an error says, and what a server answered, is not for whoever reads mail, be the letter of this
// version or of an older one, which kept it.
func TestNothingOfTheFailureIsInAMail(t *testing.T) {
	t.Parallel()
	l := letter()
	old := strings.Replace(l.Encode(), `"reason":"server_error"`, `"reason":"blocked_address","detail":"dial tcp 10.1.2.3:443: INNER-DETAIL","excerpt":"INNER-EXCERPT"`, 1)
	if !strings.Contains(old, "INNER-EXCERPT") {
		t.Fatalf("the letter has another form: %s", old)
	}
	read, err := incident.DecodeMail(old)
	if err != nil {
		t.Fatal(err)
	}
	if again := read.Encode(); strings.Contains(again, "INNER") {
		t.Errorf("the letter keeps what it should not: %s", again)
	}
	m := compose(t, read)
	digest, err := composer(t, mailer.LinkMaker{}).ComposeDigest([]*incident.Mail{&read}, since)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{m.Text, m.HTML, m.Subject, digest.Text, digest.HTML} {
		for _, inner := range []string{"INNER", "10.1.2.3", "blocked_address", "private"} {
			if strings.Contains(text, inner) {
				t.Errorf("the mail says %q:\n%s", inner, text)
			}
		}
	}
	if !strings.Contains(m.Text, "unreachable_name") {
		t.Errorf("the mail gives no reason:\n%s", m.Text)
	}
}

// TestNamesInsideAreNotTold: mails say the same of a name that does not exist and of one that leads inside.
func TestNamesInsideAreNotTold(t *testing.T) {
	t.Parallel()
	for _, k := range partner.AllEndpointKinds() {
		missing, inside := letter(), letter()
		missing.Endpoint, inside.Endpoint = k, k
		missing.Failure.Reason = delivery.ReasonDNS
		known := *inside.Failure
		known.Reason = delivery.ReasonBlockedAddress
		inside.Failure = &known
		if a, b := compose(t, missing), compose(t, inside); a.Text != b.Text || a.HTML != b.HTML || a.Subject != b.Subject {
			t.Errorf("%s: one mail reads\n%s\nthe other\n%s", k, a.Text, b.Text)
		}
	}
}

func TestMailsReadWellEverywhere(t *testing.T) {
	t.Parallel()
	html := compose(t, letter()).HTML
	for _, want := range []string{`name="color-scheme" content="light dark"`, "prefers-color-scheme: dark", `name="viewport"`} {
		if !strings.Contains(html, want) {
			t.Errorf("the HTML lacks %s", want)
		}
	}
	for _, bad := range []string{"<img", "http://", "url(", "ZgotmplZ"} {
		if strings.Contains(html, bad) {
			t.Errorf("the HTML holds %s", bad)
		}
	}
}

func TestEveryReasonHasAdviceOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := map[string]delivery.Reason{}
	for _, k := range partner.AllEndpointKinds() {
		clear(seen)
		for _, r := range delivery.AllReasons() {
			if r == delivery.ReasonNone || r == delivery.ReasonOwnFault || r == delivery.ReasonDNS { // the last is as a blocked address
				continue
			}
			l := letter()
			l.Endpoint, l.Failure.Reason = k, r
			_, rest, _ := strings.Cut(compose(t, l).Text, "What to do\n")
			text, _, _ := strings.Cut(rest, "\n")
			if other, dup := seen[text]; dup || text == "" {
				t.Errorf("%s has the advice of %s: %q", r, other, text)
			}
			seen[text] = r
		}
	}
}

// TestSamplesAreEveryMail holds the preview against the closed sets, and the mails about endpoints that
// get no notifications against speaking of them.
func TestSamplesAreEveryMail(t *testing.T) {
	t.Parallel()
	names, kinds := map[string]bool{}, map[incident.Kind]bool{}
	c := composer(t, mailer.LinkMaker{})
	for _, s := range samples() {
		if names[s.Name] {
			t.Errorf("two samples are named %s", s.Name)
		}
		names[s.Name], kinds[s.Kind()] = true, true
		m, err := s.Compose(c)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(m.Subject, "state change") && s.Kind() != mailer.KindDigest && strings.Contains(m.Text+m.HTML, "otification") {
			t.Errorf("%s speaks of notifications:\n%s", s.Name, m.Text)
		}
	}
	for _, k := range append(incident.AllKinds(), mailer.KindDigest) {
		if !kinds[k] {
			t.Errorf("no sample of kind %s", k)
		}
	}
	for _, r := range delivery.AllReasons() {
		if r != delivery.ReasonNone && r != delivery.ReasonOwnFault && !names["opened-erp_sync-"+r.String()] {
			t.Errorf("no sample for the reason %s", r)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	l := letter()
	l.To = "kim@blåbær.example"
	if m := compose(t, l); m.To != "kim@xn--blbr-roah.example" {
		t.Errorf("international domain becomes %s", m.To)
	}
	for _, bad := range []string{"", "nobody", "@example.com", "a@b\r\nBcc: c@d", "a@-bad-.example", "a <b@c.example>"} {
		l.To = bad
		if m, err := composer(t, mailer.LinkMaker{}).Compose(&l); err == nil {
			t.Errorf("%q is sent to %q", bad, m.To)
		}
	}
	for _, bad := range []string{"", "nobody", "a@b, c@d"} {
		if _, err := mailer.NewComposer(bad, mailer.LinkMaker{}); err == nil {
			t.Errorf("sender %q is taken", bad)
		}
	}
}

func TestMessageIDIsADotAtomOfOneLine(t *testing.T) {
	t.Parallel()
	l := letter()
	l.Incident, l.N = incident.NewID(partner.ClientID(strings.Repeat("a..b", 16)), partner.ERPSync, since), 20
	id := compose(t, l).ID
	if len(id) > 50 {
		t.Errorf("%s is long", id)
	}
	local, _, _ := strings.Cut(id, "@")
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			t.Errorf("%s has an empty atom", id)
		}
	}
}

func TestTimeZones(t *testing.T) {
	t.Parallel()
	for zone, want := range map[string]string{"Europe/Oslo": "21:03 CET", "": "20:03 UTC", "Local": "20:03 UTC", "No/Where": "20:03 UTC"} {
		l := letter()
		l.TimeZone = zone
		if m := compose(t, l); !strings.Contains(m.Subject, want) || !strings.Contains(m.Text, want) {
			t.Errorf("zone %q: %s", zone, m.Subject)
		}
	}
}

func fetch(t testing.TB, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, resp.Status, err)
	}
	return string(b)
}
