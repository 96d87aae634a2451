package mailer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/alerting"
	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// siege is a world in which partners set addresses, on a clock of the test's.
type siege struct {
	*world
	apps map[partner.ClientID]partner.App
	// sent is when each mail was sent, in the order of the server's.
	sent []time.Time
}

func newSiege(t *testing.T) *siege {
	t.Helper()
	w := newWorld(t)
	w.opts.Policy.GatherFor = 30 * time.Second
	return &siege{world: w, apps: map[partner.ClientID]partner.App{}}
}

// set has a partner set its app's error emails.
func (s *siege) set(id partner.ClientID, addresses ...string) ([]partner.FieldError, error) {
	s.t.Helper()
	old, ok := s.apps[id]
	if !ok {
		old = partner.New(id)
		old.Name = "App " + string(id)
	}
	next := old
	next.ErrorEmails = addresses
	next, warnings, err := partner.MarkNewUnconfirmed(partner.NormalizeApp(next, &old, s.now), &old, s.now, partner.NewAddressesADay)
	if err != nil {
		return nil, err
	}
	s.apps[id] = next
	tracker := alerting.New(alerting.Options{Store: s.store, Queue: silent{}, Environment: partner.Online, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return s.now }})
	if err := tracker.RequestConfirmations(s.t.Context(), &next); err != nil {
		s.t.Fatal(err)
	}
	return warnings, nil
}

// after lays into trays what was decided, lets time pass and sends whatever may be sent.
func (s *siege) after(d time.Duration) {
	s.t.Helper()
	for id := range s.apps {
		pages, errs := s.store.ReadOutboxPages(s.t.Context(), []registry.OutboxPlace{{App: id}})
		if errs[0] != nil {
			s.t.Fatal(errs[0])
		}
		for _, m := range pages[0].Due {
			if err := mailer.NewSender(s.opts).ForwardMail(s.t.Context(), id, m); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	s.now = s.now.Add(d)
	s.expire()
	for _, tray := range s.waiting() {
		if err := mailer.NewSender(s.opts).SendQueued(s.t.Context(), tray.Recipient); err != nil {
			s.t.Fatal(err)
		}
	}
	for len(s.sent) < len(s.post.got) {
		s.sent = append(s.sent, s.now)
	}
}

// count counts what was sent to an address, or to all for "", of which the subject holds a text.
func (s *siege) count(to, subject string) (n int) {
	for _, m := range s.post.got {
		if (to == "" || m.To == to) && strings.Contains(m.Subject, subject) {
			n++
		}
	}
	return n
}

// newsTakes opens an incident of the victim's app, and returns how long it takes until its contact gets the mail.
func (s *siege) newsTakes() time.Duration {
	s.t.Helper()
	l := letter()
	l.ClientID, l.At = "victim", s.now
	l.Incident = incident.NewID(l.ClientID, partner.StateChange, s.now)
	before := s.count(l.To, "failing since")
	s.owe(l)
	s.forward(l)
	for took := time.Duration(0); took < 48*time.Hour; {
		took += 30 * time.Second
		if s.after(30 * time.Second); s.count(l.To, "failing since") > before {
			return took
		}
	}
	s.t.Fatal("the news never came")
	return 0
}

type silent struct{}

func (silent) EnqueueForwardMail(context.Context, partner.ClientID, string, int64) error { return nil }

const asks = "Do you want the error mail"

// TestAStrangerSilencesNobody: however often a partner sets and removes another person's address, in whatever spelling, that
// person gets one confirmation, and mails about their own app are not delayed.
func TestAStrangerSilencesNobody(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		times int
		spell func(i int) string
	}{
		"OneSpelling": {4000, func(int) string { return "kim@example.com" }},
		"Tags":        {400, func(i int) string { return fmt.Sprintf("kim+%d@example.com", i) }},
		"Case":        {400, func(i int) string { return []string{"KIM", "Kim", "kIm", "kim"}[i%4] + "@Example.com" }},
		"Width":       {400, func(i int) string { return []string{"kim", "ｋｉｍ"}[i%2] + "@example.com" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSiege(t)
			for i := range tt.times {
				if _, err := s.set("evil", tt.spell(i)); err != nil {
					t.Fatal(err)
				}
				if _, err := s.set("evil"); err != nil {
					t.Fatal(err)
				}
				if s.now = s.now.Add(2 * time.Second); i%60 == 0 {
					s.after(0)
				}
			}
			s.after(0)
			took, questions := s.newsTakes(), s.count("", asks)
			t.Logf("%d times set and unset: %d questions, the news after %v", tt.times, questions, took)
			if took > 2*time.Minute || questions != 1 {
				t.Errorf("%d questions, the news took %v", questions, took)
			}
		})
	}
}

// TestOneTokenAsksFewStrangers: what one app's token can have mailed to strangers in an hour.
func TestOneTokenAsksFewStrangers(t *testing.T) {
	t.Parallel()
	s := newSiege(t)
	refused := 0
	for i := range 1800 { // every two seconds
		s.now = s.now.Add(2 * time.Second)
		var ten []string
		for n := range 10 {
			ten = append(ten, fmt.Sprintf("stranger%d@host%d.example", n, i))
		}
		if i%3 > 0 { // in smaller bites too
			ten = ten[:i%3]
		}
		if _, err := s.set("evil", ten...); err != nil {
			beyond, ok := errors.AsType[*partner.NewAddressesError](err)
			if !ok || beyond.Limit != 10 || !beyond.Until.After(s.now) || beyond.Until.After(s.now.Add(24*time.Hour)) {
				t.Fatalf("refused by %v", err)
			}
			refused++
		}
		if i%60 == 0 {
			s.after(0)
		}
	}
	s.after(time.Minute)
	t.Logf("%d mails in an hour, %d writes refused", len(s.post.got), refused)
	if n := len(s.post.got); n != 10 || refused == 0 {
		t.Errorf("%d mails in an hour, %d writes refused", n, refused)
	}
}

// TestARecipientsQuestionsHaveABudget: 3 in any 24 h, of however many apps; what waits too long or finds no room is dropped, and
// none of it delays the news.
func TestARecipientsQuestionsHaveABudget(t *testing.T) {
	t.Parallel()
	s := newSiege(t)
	for i := range 20 {
		if _, err := s.set(partner.ClientID(fmt.Sprintf("evil%d", i)), fmt.Sprintf("kim+%d@example.com", i)); err != nil {
			t.Fatal(err)
		}
	}
	s.after(0)
	if took := s.newsTakes(); took > 2*time.Minute {
		t.Errorf("the news took %v", took)
	}
	for range 6 * 8 {
		s.after(4 * time.Hour)
	}
	var asked []time.Time
	for i, m := range s.post.got {
		if strings.Contains(m.Subject, asks) {
			asked = append(asked, s.sent[i])
		}
	}
	for i := 3; i < len(asked); i++ {
		if d := asked[i].Sub(asked[i-3]); d < 24*time.Hour {
			t.Errorf("4 questions within %v", d)
		}
	}
	if len(asked) != 15 || len(s.waiting()) != 0 {
		t.Errorf("asked at %v; waiting %+v", asked, s.waiting())
	}
	s.counted("confirm dropped 5\nconfirm sent 15\nopened sent 1\n")
}

// TestNobodyIsAskedWhoSaidNever, whoever asks and in whatever spelling; news are another matter.
func TestNobodyIsAskedWhoSaidNever(t *testing.T) {
	t.Parallel()
	s := newSiege(t)
	set := func(id partner.ClientID, address string) {
		t.Helper()
		if _, err := s.set(id, address); err != nil {
			t.Fatal(err)
		}
		s.after(time.Minute)
	}
	set("evil", "kim@example.com")
	tray := incident.ConfirmationQueue("kim@example.com")
	if err := s.trays.SetConfirmationsRefused(t.Context(), tray, true); err != nil {
		t.Fatal(err)
	}
	set("worse", "kim+1@example.com")
	set("worst", "KIM@Example.com")
	if n := s.count("", asks); n != 1 {
		t.Errorf("%d questions", n)
	}
	if took := s.newsTakes(); took > 2*time.Minute {
		t.Errorf("the news took %v", took)
	}
	if err := s.trays.SetConfirmationsRefused(t.Context(), tray, false); err != nil {
		t.Fatal(err)
	}
	set("good", "kim@example.com")
	if n := s.count("", asks); n != 2 {
		t.Errorf("%d questions after it was taken back", n)
	}
	s.counted("confirm sent 2\nconfirm unwanted 2\nopened sent 1\n")
}

// TestQuestionsOfAVersionBeforeMakeRoom: older versions put confirmations into the recipient's own mail queue, where they
// came first and used up the daily cap.
func TestQuestionsOfAVersionBeforeMakeRoom(t *testing.T) {
	t.Parallel()
	s := newSiege(t)
	const many = 500
	own := incident.RecipientKey("kim@example.com")
	fields := []any{"v", "1", "count", many, "due", "1"}
	for i := range many {
		l := letter()
		l.ClientID = partner.ClientID(fmt.Sprintf("evil%d", i))
		l = incident.Mail{Recipient: l.Recipient, Kind: incident.KindConfirm, Incident: incident.NewConfirmationID(l.ClientID, s.now), N: 1, At: s.now, Since: s.now}
		fields = append(fields, "letter:"+l.ID(), "1;"+l.Encode())
	}
	s.rdb.HSet(t.Context(), keys.New("").Recipient(own, keys.RecipientMailQueue), fields...)
	s.rdb.ZAdd(t.Context(), keys.New("").Config(keys.ConfigMailQueues), redis.Z{Score: 1, Member: own})
	if took := s.newsTakes(); took > 2*time.Minute {
		t.Errorf("the news took %v", took)
	}
	s.after(time.Minute)
	if n := s.count("", asks); n != 3 {
		t.Errorf("%d questions, want 3 today", n)
	}
}

// TestABouncedQuestionSaysNothingOfOtherSpellings: an address with a +tag may be another person's mailbox.
func TestABouncedQuestionSaysNothingOfOtherSpellings(t *testing.T) {
	t.Parallel()
	s := newSiege(t)
	s.post.errs = []error{&mailer.SendError{Permanent: true, BadAddress: true, Code: 550, Err: errors.New("550 5.1.1 unknown")}}
	for i, e := range []string{"kim+a@example.com", "kim+b@example.com"} {
		if _, err := s.set(partner.ClientID(fmt.Sprintf("app%d", i)), e); err != nil {
			t.Fatal(err)
		}
		s.now = s.now.Add(time.Second)
	}
	s.after(time.Minute)
	if !slices.Equal(s.bounces, []string{"app0 kim+a@example.com 550"}) || s.count("kim+b@example.com", asks) != 1 {
		t.Errorf("bounces %v, sent %v", s.bounces, s.post.ids())
	}
}

// TestAQuestionCanBeStopped by one click of a mail program.
func TestAQuestionCanBeStopped(t *testing.T) {
	t.Parallel()
	l := letter()
	l = incident.Mail{Recipient: l.Recipient, Kind: incident.KindConfirm, Incident: incident.NewConfirmationID(l.ClientID, since), N: 1, At: since, Since: since}
	m, err := composer(t, links(t).LinkMaker()).Compose(&l)
	if err != nil {
		t.Fatal(err)
	}
	h := parse(t, eml(t, m)).header
	if !strings.HasPrefix(h.Get("List-Unsubscribe"), "<https://platform.example/mail/never-ask/") || h.Get("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click" {
		t.Errorf("header %v", h)
	}
	if !strings.Contains(m.Text, "Never ask me again: "+m.Unsubscribe) || !strings.Contains(m.HTML, m.Unsubscribe) {
		t.Errorf("the mail has no link:\n%s", m.Text)
	}
}
