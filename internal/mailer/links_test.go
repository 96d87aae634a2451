package mailer_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/incident"
	"github.com/lamplighter/lamplighter/internal/mailer"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func links(t testing.TB) *mailer.Links {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	if err != nil {
		t.Fatal(err)
	}
	return mailer.NewLinks("https://platform.example", secret.NewKeyring(k))
}

func TestLinks(t *testing.T) {
	t.Parallel()
	k, l := links(t), letter()
	key := incident.RecipientKey(l.To)
	off := k.UnsubscribeLink("Kim@Example.com", []partner.ClientID{"app1", "app.2"})
	token, ok := strings.CutPrefix(off, "https://platform.example/mail/unsubscribe/")
	got, err := k.ReadUnsubscribe(token)
	if diff := cmp.Diff(mailer.Recipient{Key: key, Apps: []partner.ClientID{"app1", "app.2"}}, got); !ok || err != nil || diff != "" {
		t.Errorf("%s: %v\n%s", off, err, diff)
	}
	yes := k.ConfirmLink(&l)
	confirm, ok := strings.CutPrefix(yes, "https://platform.example/mail/confirm/")
	for after, good := range map[time.Duration]bool{0: true, mailer.ConfirmWithin: true, mailer.ConfirmWithin + time.Millisecond: false} {
		got, err := k.ReadConfirm(confirm, l.At.Add(after))
		if want := (mailer.Recipient{Key: key, Apps: []partner.ClientID{"app1"}, Asked: l.At}); !ok || good != (err == nil) || good && !cmp.Equal(got, want) {
			t.Errorf("after %v: %+v, %v", after, got, err)
		}
		if !good && !errors.Is(err, mailer.ErrOldLink) {
			t.Errorf("after %v: %v, want ErrOldLink", after, err)
		}
	}
	never := k.BlockConfirmationsLink("Kim+x@Example.com")
	ask, ok := strings.CutPrefix(never, "https://platform.example/mail/never-ask/")
	if tray, err := k.ReadBlockConfirmations(ask); !ok || err != nil || tray != incident.ConfirmationQueue(l.To) {
		t.Errorf("%s ends the questions of %s, %v", never, tray, err)
	}
	for _, bad := range []string{"", "x", ask[1:], token, confirm} {
		if _, err := k.ReadBlockConfirmations(bad); !errors.Is(err, mailer.ErrBadLink) {
			t.Errorf("%q: %v, want ErrBadLink", bad, err)
		}
	}
	if _, err := k.ReadUnsubscribe(ask); !errors.Is(err, mailer.ErrBadLink) {
		t.Errorf("a link against questions unsubscribes: %v", err)
	}
	if _, err := k.ReadUnsubscribe(confirm); !errors.Is(err, mailer.ErrBadLink) {
		t.Errorf("a confirmation unsubscribes: %v", err)
	}
	for _, bad := range []string{"", "x", token[1:], token + "AA", strings.ToUpper(token), "../../v1/apps"} {
		if _, err := k.ReadUnsubscribe(bad); !errors.Is(err, mailer.ErrBadLink) {
			t.Errorf("%q: %v, want ErrBadLink", bad, err)
		}
		if _, err := k.ReadConfirm(bad, l.At); !errors.Is(err, mailer.ErrBadLink) {
			t.Errorf("%q: %v, want ErrBadLink", bad, err)
		}
	}
	if strings.Contains(off+yes+never, "kim") {
		t.Error("a link names the address")
	}
	var many []partner.ClientID
	for i := range 100 {
		many = append(many, partner.ClientID(fmt.Sprintf("%032d", i)))
	}
	if got := k.UnsubscribeLink(l.To, many); got != "" {
		t.Errorf("a link of %d characters", len(got))
	}
	if got := k.UnsubscribeLink(l.To, many[:16]); len(got) == 0 || len(got) > 900 {
		t.Errorf("a link of %d characters", len(got))
	}
}
