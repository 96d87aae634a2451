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

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// subscribers is one app, and what recipients asked for.
type subscribers struct {
	app     partner.App
	actions []string
	did     []string
}

func (s *subscribers) SetMailSuppressed(_ context.Context, sub registry.Subscription, on bool) error {
	s.did = append(s.did, fmt.Sprintf("%s %s %t", sub.App, sub.Recipient, on))
	return nil
}

func (s *subscribers) SetConfirmationsRefused(_ context.Context, recipient string, on bool) error {
	s.did = append(s.did, fmt.Sprintf("%s %t", recipient, on))
	return nil
}

func (s *subscribers) ChangeApp(_ context.Context, id partner.ClientID, _ registry.Actor, action string, alter func(partner.App) (partner.App, bool)) error {
	if id != s.app.ClientID {
		return registry.ErrNotFound
	}
	next, changed := alter(s.app)
	if changed {
		s.app, s.actions = next, append(s.actions, action)
	}
	return nil
}

func newSubscriptions(t *testing.T) (*subscribers, *mailer.Subscriptions, *mailer.Links) {
	t.Helper()
	s, k := &subscribers{app: partner.New("app1")}, links(t)
	return s, mailer.NewSubscriptions(mailer.SubscriptionOptions{
		Links: k, Suppressions: s, Confirmations: s, Apps: s, Log: slog.New(slog.DiscardHandler),
	}), k
}

// TestSubscriptionLinks: a preview changes nothing, the rest is done for each app of the link.
func TestSubscriptionLinks(t *testing.T) {
	t.Parallel()
	const to = "kim@example.com"
	s, m, k := newSubscriptions(t)
	off := strings.TrimPrefix(k.UnsubscribeLink(to, []partner.ClientID{"app1", "app2"}), "https://platform.example/mail/unsubscribe/")
	never := strings.TrimPrefix(k.BlockConfirmationsLink(to), "https://platform.example/mail/never-ask/")
	for _, action := range []mailer.LinkAction{mailer.LinkPreview, mailer.LinkUnsubscribe, mailer.LinkResubscribe} {
		apps, err := m.Unsubscribe(t.Context(), off, action)
		if err != nil || !slices.Equal(apps, []partner.ClientID{"app1", "app2"}) {
			t.Errorf("%d: %v, %v", action, apps, err)
		}
		if err := m.BlockConfirmations(t.Context(), never, action); err != nil {
			t.Errorf("%d: %v", action, err)
		}
	}
	key, queue := incident.RecipientKey(to), incident.ConfirmationQueue(to)
	want := []string{"app1 " + key + " true", "app2 " + key + " true", queue + " true", "app1 " + key + " false", "app2 " + key + " false", queue + " false"}
	if !slices.Equal(s.did, want) {
		t.Errorf("did %q, want %q", s.did, want)
	}
	_, err := m.Unsubscribe(t.Context(), never, mailer.LinkUnsubscribe)
	if !errors.Is(err, mailer.ErrBadLink) || !errors.Is(m.BlockConfirmations(t.Context(), off, mailer.LinkUnsubscribe), mailer.ErrBadLink) {
		t.Errorf("a link for something else: %v", err)
	}
}

// TestConfirmation: only the newest link to an address that waits confirms it, and repeating that does no harm.
func TestConfirmation(t *testing.T) {
	t.Parallel()
	const to = "kim@example.com"
	s, m, k := newSubscriptions(t)
	asked := time.Now().UTC().Truncate(time.Millisecond)
	link := func(app partner.ClientID, at time.Time) string {
		l := incident.Mail{Recipient: incident.Recipient{To: to, ClientID: app}, At: at}
		return strings.TrimPrefix(k.ConfirmLink(&l), "https://platform.example/mail/confirm/")
	}
	s.app.ErrorEmails = []string{to}
	s.app = s.app.WithMark(to, &partner.AddressMark{State: partner.Unconfirmed, Since: asked})
	for _, old := range []string{link("app1", asked.Add(-time.Minute)), link("app2", asked), link("app1", asked.Add(-2*mailer.ConfirmWithin))} {
		if _, err := m.Confirm(t.Context(), old, true); !errors.Is(err, mailer.ErrOldLink) {
			t.Errorf("an outdated link: %v", err)
		}
	}
	if _, err := m.Confirm(t.Context(), "x", true); !errors.Is(err, mailer.ErrBadLink) {
		t.Errorf("no link: %v", err)
	}
	for _, commit := range []bool{false, true, true, false} {
		if id, err := m.Confirm(t.Context(), link("app1", asked), commit); id != "app1" || err != nil {
			t.Errorf("commit %t: %s, %v", commit, id, err)
		}
		if _, waits := s.app.MarkOf(to); !commit && len(s.actions) == 0 && !waits {
			t.Error("a preview confirmed the address")
		}
	}
	if _, waits := s.app.MarkOf(to); waits || !slices.Equal(s.actions, []string{"app.confirm_address"}) {
		t.Errorf("waits %t, written %v", waits, s.actions)
	}
}

// TestBounces: an address is marked once, and neither an unknown address nor a deleted app is an error.
func TestBounces(t *testing.T) {
	t.Parallel()
	const to = "kim@example.com"
	s, m, _ := newSubscriptions(t)
	s.app.ErrorEmails = []string{to}
	for _, b := range []struct {
		app partner.ClientID
		to  string
	}{{"app1", "lee@example.com"}, {"app2", to}, {"app1", to}, {"app1", to}} {
		if err := m.MarkBounced(t.Context(), b.app, b.to, 550); err != nil {
			t.Error(err)
		}
	}
	mark, ok := s.app.MarkOf(to)
	if !ok || mark.State != partner.Bounced || mark.Code != 550 || !slices.Equal(s.actions, []string{"app.bounce_address"}) {
		t.Errorf("mark %+v, written %v", mark, s.actions)
	}
}
