package mailer_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// everyMail is one mail of every kind, as it leaves with all of its links.
func everyMail(t testing.TB) map[string]*mailer.Message {
	t.Helper()
	c := composer(t, mailer.LinkMaker{
		Unsubscribe:        func(string, []partner.ClientID) string { return "https://platform.example/mail/unsubscribe/abc" },
		Confirm:            func(*incident.Mail) string { return "https://platform.example/mail/confirm/abc" },
		BlockConfirmations: func(string) string { return "https://platform.example/mail/never-ask/abc" },
	})
	all := map[string]*mailer.Message{}
	for _, s := range samples() {
		m, err := s.Compose(c)
		if err != nil {
			t.Fatal(err)
		}
		all[s.Name] = m
	}
	m, err := c.ComposeTest("kim@example.com", partner.Online, since)
	if err != nil {
		t.Fatal(err)
	}
	all["test"] = m
	return all
}

func samples() []mailer.Sample {
	return mailer.MakeSamples(mailer.SampleOptions{To: "kim@example.com", Environment: partner.Online, TimeZone: "Europe/Oslo"})
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func raw(t testing.TB, m *mailer.Message, s *mailer.Signer) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.WriteEML(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// python runs a program of Debian's Python, where its packages are.
func python(t testing.TB, program string, stdin []byte, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", append([]string{"-c", program}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("python3: %v (run 'make deps')\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// verify checks signed mails, given with the record that stands in the DNS, all in one process.
const verify = `import sys, json, dkim
for mail, record in json.load(sys.stdin):
    seen = []
    def dns(name, timeout=5):
        seen.append(name)
        return record.encode()
    print(dkim.verify(mail.encode(), dnsfunc=dns), b"".join(seen).decode())`

// TestDKIM has another implementation verify every kind of mail.
func TestDKIM(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	edPub, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var mails [][2]string
	var names, want []string
	add := func(name, verdict string, mail []byte, record string) {
		mails, names, want = append(mails, [2]string{string(mail), record}), append(names, name), append(want, verdict)
	}
	for name, k := range map[string]struct {
		pem    []byte
		record string
	}{
		"RSA":     {pkcs8(t, rsaKey), "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(pub)},
		"Ed25519": {pkcs8(t, edKey), "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(edPub)},
	} {
		s, err := mailer.NewSigner(k.pem, "lamp2026", "platform.example")
		if err != nil {
			t.Fatal(err)
		}
		for kind, m := range everyMail(t) {
			signed := raw(t, m, s)
			add(name+" "+kind, "True", signed, k.record)
			if again := raw(t, m, s); !bytes.Equal(signed, again) {
				t.Errorf("%s %s: the same mail is signed differently", name, kind)
			}
			if kind != "opened-state_change-server_error" {
				continue
			}
			for _, change := range [][2]string{
				{"\r\nSubject: ", "\r\nSubject: Re: "},
				{"\r\nFrom: ", "\r\nFrom: Eve "},
				{"partner.example", "evil.example"},
				{"List-Unsubscribe=One-Click", "List-Unsubscribe=Two-Click"},
				// What a reader may take instead of what was signed: one more header, above or below, or another reading of the body.
				{"\r\nFrom: ", "\r\nFrom: Eve <eve@evil.example>\r\nFrom: "},
				{"\r\n\r\n", "\r\nFrom: Eve <eve@evil.example>\r\n\r\n"},
				{"\r\n\r\n", "\r\nSubject: Pay\r\n\r\n"},
				{"\r\n\r\n", "\r\nTo: you@evil.example\r\n\r\n"},
				{"\r\n\r\n", "\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n"},
				{"\r\n\r\n", "\r\nMessage-ID: <a@evil.example>\r\n\r\n"},
				{"\r\n\r\n", "\r\nReply-To: eve@evil.example\r\n\r\n"},
				{"\r\n\r\n", "\r\nContent-Type: text/html\r\n\r\n"},
				{"multipart/alternative", "text/html"},
				{"\r\n\r\n", "\r\nMIME-Version: 2.0\r\n\r\n"},
				{"MIME-Version: 1.0", "MIME-Version: 2.0"},
				{"\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n"},
				{"\r\n\r\n", "\r\nList-Unsubscribe: <https://evil.example>\r\n\r\n"},
				{"\r\n\r\n", "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n"},
			} {
				forged := bytes.Replace(signed, []byte(change[0]), []byte(change[1]), 1)
				if bytes.Equal(forged, signed) {
					t.Fatalf("%q is not in the mail", change[0])
				}
				add(name+" forged "+change[1], "False", forged, k.record)
			}
		}
	}
	in, err := json.Marshal(mails)
	if err != nil {
		t.Fatal(err)
	}
	answers := strings.Split(python(t, verify, in), "\n")
	if len(answers) != len(want) {
		t.Fatalf("%d answers on %d mails", len(answers), len(want))
	}
	for i, got := range answers {
		if got = strings.TrimSpace(got); got != want[i]+" lamp2026._domainkey.platform.example." {
			t.Errorf("%s: verified %s", names[i], got)
		}
	}
}

func TestDKIMKeys(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := pkcs8(t, small)
	for name, tt := range map[string]struct {
		pem              []byte
		selector, domain string
	}{
		"NoPEM": {[]byte("secret words"), "a", "b.example"}, "NoSelector": {good, "", "b.example"}, "Selector": {good, "a b", "b.example"},
		"Domain": {good, "a", "b .example"}, "Certificate": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "a", "b.example"},
	} {
		if s, err := mailer.NewSigner(tt.pem, tt.selector, tt.domain); err == nil || s != nil || strings.Contains(err.Error(), "secret words") {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	if _, err := mailer.NewSigner(good, "a", "b.example"); err != nil {
		t.Error(err)
	}
}

// read parses mails with Python's library.
const read = `import sys, json, email, email.policy
out = []
for text in json.load(sys.stdin):
    m = email.message_from_bytes(text.encode(), policy=email.policy.default)
    bad = [str(d) for p in m.walk() for d in p.defects] + [h + ": " + str(d) for h, v in m.items() for d in v.defects]
    out.append({"id": m["Message-ID"].strip("<>"), "subject": m["Subject"], "to": [a.addr_spec for a in m["To"].addresses],
        "from": [a.addr_spec for a in m["From"].addresses], "date": m["Date"].datetime.isoformat(),
        "text": m.get_body(("plain",)).get_content().replace("\r\n", "\n"), "html": m.get_body(("html",)).get_content().replace("\r\n", "\n"), "defects": bad})
print(json.dumps(out))`

// TestOthersReadTheMails has two mail libraries that we do not use read every kind of mail.
func TestOthersReadTheMails(t *testing.T) {
	t.Parallel()
	var texts []string
	var want []*mailer.Message
	for _, m := range everyMail(t) {
		texts, want = append(texts, string(raw(t, m, nil))), append(want, m)
	}
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	node := exec.CommandContext(t.Context(), "node", "read-mails.mjs")
	node.Dir, node.Stdin = "../../test/interop", bytes.NewReader(in)
	nodeOut, err := node.Output()
	if err != nil {
		t.Fatalf("node: %v (run 'make deps')", err)
	}
	for reader, out := range map[string]string{"python": python(t, read, in), "node": string(nodeOut)} {
		var got []struct {
			ID, Subject, Date, Text, HTML string
			To, From, Defects             []string
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil || len(got) != len(want) {
			t.Fatalf("%s: %v, %d mails", reader, err, len(got))
		}
		for i, g := range got {
			m := want[i]
			if g.ID != m.ID || g.Subject != m.Subject || len(g.To) != 1 || g.To[0] != m.To || len(g.From) != 1 || g.From[0] != m.From.Address {
				t.Errorf("%s read %+v", reader, g)
			}
			if strings.TrimSpace(g.Text) != strings.TrimSpace(m.Text) || strings.TrimSpace(g.HTML) != strings.TrimSpace(m.HTML) || len(g.Defects) != 0 {
				t.Errorf("%s: mail %s: defects %v, text as sent %v", reader, g.ID, g.Defects, g.Text == m.Text)
			}
		}
	}
}

// TestSpamFilter has SpamAssassin's own rules judge every kind of mail. Of what it finds without the
// network, nothing may be ours to mend.
func TestSpamFilter(t *testing.T) {
	t.Parallel()
	var box bytes.Buffer
	mails := everyMail(t)
	for name := range mails { // each takes it the better part of a second
		if (strings.HasPrefix(name, "opened-erp_sync-") || strings.HasPrefix(name, "opened-state_change-")) && !strings.HasSuffix(name, "-server_error") {
			delete(mails, name)
		}
	}
	for _, m := range mails {
		box.WriteString("From lamplighter Fri Nov 20 20:03:00 2026\n")
		box.Write(bytes.ReplaceAll(raw(t, m, nil), []byte("\r\n"), []byte("\n")))
		box.WriteString("\n\n")
	}
	cmd := exec.CommandContext(t.Context(), "spamassassin", "--local", "--nocreate-prefs", "--mbox")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.Stdin = &box
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("spamassassin: %v (run 'make deps')", err)
	}
	verdicts := strings.Split(string(out), "\nX-Spam-Status: ")[1:]
	if len(verdicts) != len(mails) {
		t.Fatalf("%d verdicts on %d mails", len(verdicts), len(mails))
	}
	for _, v := range verdicts {
		status, _, _ := strings.Cut(v, " autolearn=")
		status = strings.ReplaceAll(strings.Join(strings.Fields(status), " "), ", ", ",")
		_, tests, found := strings.Cut(status, "tests=")
		if !found || !strings.HasPrefix(status, "No,") {
			t.Errorf("judged: %s", status)
		}
		for test := range strings.SplitSeq(tests, ",") {
			switch test {
			case "HTML_MESSAGE": // that it has an HTML part, worth nothing
			case "NO_RECEIVED", "NO_RELAYS": // no server has carried it yet
			default:
				t.Errorf("SpamAssassin finds %s: %s", test, status)
			}
		}
	}
}
