package mailer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
)

func TestOneCauseManyAppsIsOneDigest(t *testing.T) {
	t.Parallel()
	for n, mails := range map[int]int{1: 1, 3: 3, 4: 1, 40: 1, 501: 2} {
		w := newWorld(t)
		w.send(outage(n)...)
		if len(w.post.got) != mails || len(w.waiting()) != 0 {
			t.Errorf("%d apps: %d mails, want %d", n, len(w.post.got), mails)
		}
		var texts []string
		for _, m := range w.post.got {
			texts = append(texts, m.Text)
		}
		all := strings.Join(texts, "\n")
		for i := range n {
			if id := incident.NewID(partner.ClientID(fmt.Sprintf("app%d", i)), partner.StateChange, since); !strings.Contains(all, id) {
				t.Fatalf("%d apps: no mail names %s", n, id)
			}
		}
	}
}

func TestDailyCap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Policy.DailyCap = 3
	ls := outage(8)
	for i := range 3 {
		w.send(ls[i])
	}
	w.send(ls[3], ls[4])
	if len(w.post.got) != 3 {
		t.Fatalf("%d mails, the cap is 3", len(w.post.got))
	}
	if list := w.waiting(); len(list) != 1 || list[0].Mails != 2 || time.Until(list[0].Due) < 23*time.Hour {
		t.Fatalf("waiting %+v", list)
	}
	w.now = w.now.Add(24*time.Hour - time.Millisecond)
	w.expire()
	w.deliver()
	if len(w.post.got) != 3 {
		t.Fatal("the day is not over")
	}
	w.now = w.now.Add(time.Millisecond)
	w.expire()
	w.deliver()
	if len(w.post.got) != 4 || !strings.HasPrefix(w.post.got[3].ID, "digest.") {
		t.Fatalf("sent %v, want one digest of what was beyond", w.post.ids())
	}
	for _, l := range ls[3:5] {
		if !strings.Contains(w.post.got[3].Text, l.Incident) {
			t.Errorf("the digest does not name %s", l.Incident)
		}
	}
	w.send(ls[5]) // a new day has begun
	if len(w.post.got) != 5 {
		t.Errorf("sent %v", w.post.ids())
	}
	w.opts.Policy.DailyCap = 0
	w.send(ls[6])
	w.send(ls[7])
	if len(w.post.got) != 7 {
		t.Errorf("no cap: sent %v", w.post.ids())
	}
}

func TestOneIncidentIsToldInItsOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	down := &mailer.SendError{Server: true, Err: errors.New("down")}
	w.post.errs = []error{down}
	var ls []incident.Mail
	for i, k := range []incident.Kind{incident.KindOpened, incident.KindReminder, incident.KindReminder, incident.KindSwitchedOff, incident.KindRecovered} {
		l := letter()
		l.Kind, l.N, l.At = k, i+1, since.Add(time.Duration(i+1)*time.Minute)
		ls = append(ls, l)
	}
	w.send(ls[0])
	w.owe(ls[1:]...)
	w.forward(ls[4], ls[2], ls[1], ls[3])
	w.expire()
	w.deliver()
	for i, m := range w.post.got {
		if !strings.Contains(m.ID, fmt.Sprintf(".%d@", i+1)) {
			t.Errorf("mail %d is %s", i+1, m.ID)
		}
	}
	if len(w.post.got) != 5 {
		t.Errorf("sent %v", w.post.ids())
	}
}

// TestMailsAnswerTheDigestThatCameFirst: a Message-ID that was never sent is no thread.
func TestMailsAnswerTheDigestThatCameFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ls := outage(5)
	w.send(ls[:1]...) // told by itself
	w.send(ls[1:]...) // told by a digest
	later := func(l incident.Mail, k incident.Kind, n int) incident.Mail {
		l.Kind, l.N, l.First, l.After = k, n, 1, n-1
		l.EndedAt = since.Add(time.Hour)
		return l
	}
	reopened := ls[2]
	reopened.Previous, reopened.Reopened = ls[2].Incident, 1
	reopened.Incident = incident.NewID(ls[2].ClientID, partner.StateChange, since.Add(2*time.Hour))
	for _, l := range []incident.Mail{
		later(ls[0], incident.KindRecovered, 2), later(ls[1], incident.KindReminder, 2), later(ls[1], incident.KindRecovered, 3), later(ls[2], incident.KindRecovered, 2), reopened,
	} {
		w.expire()
		w.send(l)
	}
	if len(w.post.got) != 7 {
		t.Fatalf("sent %v", w.post.ids())
	}
	single, digest := w.post.got[0].ID, w.post.got[1].ID
	for i, want := range []string{single, digest, digest, digest, ""} {
		if m := w.post.got[2+i]; m.InReplyTo != want {
			t.Errorf("mail %d (%s) answers %q, want %q", i, m.Subject, m.InReplyTo, want)
		}
	}
	if m := w.post.got[6]; len(m.References) != 1 || m.References[0] != digest {
		t.Errorf("the reopened one refers to %v, want the digest %s", m.References, digest)
	}
}

func digestLetters() []*incident.Mail {
	ls := outage(7)
	ls[6].Kind, ls[6].N = incident.KindClosed, 2
	ls[1].Failure = &incident.PublicFailure{Reason: delivery.ReasonDNS}
	ls[2].Kind, ls[2].N, ls[2].EndedAt = incident.KindRecovered, 2, since.Add(time.Hour)
	ls[3].Kind, ls[3].OffReason = incident.KindSwitchedOff, partner.OffFailing
	older := ls[2]
	older.Kind, older.N = incident.KindOpened, 1
	out := []*incident.Mail{&older}
	for i := range ls {
		out = append(out, &ls[i])
	}
	return out
}

func TestGoldenDigest(t *testing.T) {
	t.Parallel()
	c := composer(t, mailer.LinkMaker{Unsubscribe: func(string, []partner.ClientID) string { return "https://platform.example/mail/unsubscribe/abc" }})
	m, err := c.ComposeDigest(digestLetters(), since.Add(6*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "digest.txt", "Subject: "+m.Subject+"\n\n"+m.Text)
	golden(t, "digest.html", m.HTML)
	again, err := c.ComposeDigest(digestLetters(), since.Add(6*time.Minute))
	if err != nil || eml(t, m) != eml(t, again) {
		t.Errorf("the same letters make another digest, %v", err)
	}
	if _, err := c.ComposeDigest(nil, since); err == nil {
		t.Error("a digest of nothing")
	}
	p := parse(t, eml(t, m))
	if p.header.Get("List-Unsubscribe") == "" || p.header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("header %v", p.header)
	}
}

// TestDigestAdvisesEachByItself: the same reason may have different advice for different kinds of endpoints.
func TestDigestAdvisesEachByItself(t *testing.T) {
	t.Parallel()
	ls := outage(4)
	for i := range ls {
		ls[i].Failure = &incident.PublicFailure{Reason: delivery.ReasonTimeout}
	}
	ls[1].Endpoint, ls[3].Endpoint = partner.ERPSync, partner.ERPSync
	var first string
	for range 20 { // a map has no order
		m, err := composer(t, mailer.LinkMaker{}).ComposeDigest([]*incident.Mail{&ls[0], &ls[1], &ls[2], &ls[3]}, since)
		if err != nil {
			t.Fatal(err)
		}
		push, call := strings.Index(m.Text, "Answer first and do the work afterwards"), strings.Index(m.Text, "Users of the platform wait for its answer")
		if push < 0 || call < 0 || strings.Count(m.Text, " (2)\n") != 2 {
			t.Fatalf("the digest says\n%s", m.Text)
		}
		if first == "" {
			first = m.Text
		}
		if m.Text != first {
			t.Fatalf("the same letters make another digest:\n%s\nand\n%s", first, m.Text)
		}
	}
}

func TestNothingIsInjectedIntoADigest(t *testing.T) {
	t.Parallel()
	evil := "Evil\r\nBcc: victim@example.com\r\n\r\n<script>alert(1)</script>\u202E\x00\x1b[31m"
	ls := outage(5)
	for i := range ls {
		ls[i].AppName, ls[i].Environment = evil, partner.Environment(evil)
	}
	w := newWorld(t)
	w.send(ls...)
	p := parse(t, eml(t, w.post.got[0]))
	if p.header.Get("Bcc") != "" || strings.Contains(p.html, "<script") || strings.ContainsAny(p.text, "\x00\x1b\u202E") || strings.Contains(p.text, "\nBcc:") {
		t.Errorf("injected:\n%v\n%s", p.header, p.text)
	}
}
