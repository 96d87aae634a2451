package partner_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/partner"
)

func TestAddressesThatAPartnerSetsAreAsked(t *testing.T) {
	t.Parallel()
	staff := partner.NormalizeApp(partner.App{ClientID: "app1", TechnicalContact: partner.Contact{Email: "Kim@example.com"}}, nil, before)
	next := staff
	next.ErrorEmails = []string{"kim@example.com", "lee@example.com"}
	next = askNew(t, partner.NormalizeApp(next, &staff, now), &staff, now)
	if _, marked := next.MarkOf("kim@example.com"); marked {
		t.Error("an address that stood there is asked again")
	}
	if m, _ := next.MarkOf("LEE@example.com"); m.State != partner.Unconfirmed || !m.Since.Equal(now) {
		t.Errorf("a new one is marked %+v", m)
	}
	to, skipped := next.ReachableRecipients()
	if diff := cmp.Diff([]string{"kim@example.com"}, to); diff != "" || len(skipped) != 1 || skipped[0] != (partner.UnreachableRecipient{Address: "lee@example.com", State: partner.Unconfirmed}) {
		t.Errorf("reachable %v, skipped %v", to, skipped)
	}
	again := partner.NormalizeApp(next, &next, now.Add(time.Hour))
	if diff := cmp.Diff(next.AddressMarks, again.AddressMarks); diff != "" {
		t.Errorf("another write changes the marks:\n%s", diff)
	}
	if confirmed := next.WithMark("lee@example.com", nil); len(confirmed.AddressMarks) != 0 || len(next.AddressMarks) != 1 {
		t.Errorf("confirmed %v, before %v", confirmed.AddressMarks, next.AddressMarks)
	}
	without := next
	without.ErrorEmails = nil
	without = partner.NormalizeApp(without, &next, now)
	if len(without.AddressMarks) != 0 {
		t.Errorf("remembered %v of an address that is gone", without.AddressMarks)
	}
	if back := partner.NormalizeApp(next, &without, now); len(back.AddressMarks) != 0 {
		t.Error("staff set it anew, and it is asked")
	}
	if fresh := askNew(t, next, nil, now); len(fresh.AddressMarks) != 2 {
		t.Errorf("a new app's: %v", fresh.AddressMarks)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	bounced := partner.AddressMark{State: partner.Bounced, Since: now, Code: 550}
	app := partner.App{TechnicalContact: partner.Contact{Email: "kim@example.com"}, ErrorEmails: []string{"a@example.com", "b@example.com"}}
	for name, tt := range map[string]struct {
		bad  []string
		want []string
	}{
		"All": {nil, []string{"a@example.com", "b@example.com"}}, "OneBounced": {[]string{"A@example.com"}, []string{"b@example.com"}},
		"AllBounced": {[]string{"a@example.com", "b@example.com"}, []string{"kim@example.com"}},
		"NobodyLeft": {[]string{"a@example.com", "b@example.com", "kim@example.com"}, nil},
	} {
		a := app
		for _, e := range tt.bad {
			a = a.WithMark(e, &bounced)
		}
		to, skipped := a.ReachableRecipients()
		if diff := cmp.Diff(tt.want, to); diff != "" || len(skipped) != len(tt.bad) {
			t.Errorf("%s: %v skipped (-want +got):\n%s", name, skipped, diff)
		}
	}
	if to, skipped := (&partner.App{}).ReachableRecipients(); len(to)+len(skipped) != 0 {
		t.Errorf("nobody: %v %v", to, skipped)
	}
}
