package partner_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
)

func askNew(t *testing.T, app partner.App, old *partner.App, at time.Time) partner.App {
	t.Helper()
	app, _, err := partner.MarkNewUnconfirmed(app, old, at, partner.NewAddressesADay)
	if err != nil {
		t.Fatal(err)
	}
	return app
}

// set writes an app's error emails as a partner.
func set(old partner.App, at time.Time, addresses ...string) (partner.App, []partner.FieldError, error) {
	next := old
	next.ErrorEmails = addresses
	return partner.MarkNewUnconfirmed(partner.NormalizeApp(next, &old, at), &old, at, partner.NewAddressesADay)
}

func TestQuestionKey(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{"kim@example.com", "KIM@Example.COM", "kim+a@example.com", "Kim+a+b@example.com", "kim+@example.com", "ｋｉｍ@example.com"},
		{"kim@bücher.example", "kim@xn--bcher-kva.example", "kim+x@BÜCHER.example", "kim@bu\u0308cher.example"},
		{"josé@example.com", "jose\u0301@example.com"},
		{"+kim@example.com", "+KIM@example.com"},
	} {
		for _, a := range same {
			if partner.ConfirmationKey(a) != partner.ConfirmationKey(same[0]) {
				t.Errorf("%q is another than %q", a, same[0])
			}
		}
	}
	seen := map[string]string{}
	for _, a := range []string{"kim@example.com", "kim@example.org", "lee@example.com", "k.im@example.com", "+kim@example.com", "+lee@example.com", "kim@bücher.example", "kim@example.com@x"} {
		if other := seen[partner.ConfirmationKey(a)]; other != "" {
			t.Errorf("%q is the same as %q", a, other)
		}
		seen[partner.ConfirmationKey(a)] = a
	}
}

// TestAnAddressIsAskedOnce while its link is good, and the link confirms it whenever it is set.
func TestAnAddressIsAskedOnce(t *testing.T) {
	t.Parallel()
	app, warnings, err := set(partner.New("app1"), now, "kim@example.com")
	if err != nil || len(warnings) != 0 {
		t.Fatalf("%v, %v", warnings, err)
	}
	for _, later := range []time.Duration{time.Second, 6 * 24 * time.Hour, partner.ConfirmationPeriod - time.Millisecond} {
		at := now.Add(later)
		without, _, err := set(app, at)
		if err != nil || len(without.AddressMarks) != 0 {
			t.Fatalf("taken out: %+v, %v", without.AddressMarks, err)
		}
		for _, e := range []string{"kim@example.com", "Kim@Example.com", "kim+1@example.com"} {
			again, warnings, err := set(without, at, e)
			if m, _ := again.MarkOf(e); err != nil || m.State != partner.Unconfirmed || !m.Since.Equal(now) {
				t.Errorf("%s after %v: mark %+v, %v", e, later, m, err)
			}
			if asks := again.IsConfirmationTarget(e); asks != !strings.Contains(e, "+") {
				t.Errorf("%s after %v: asks %v", e, later, asks)
			}
			if len(warnings) != 1 || warnings[0].Pointer != "/error_emails/0" || !strings.Contains(warnings[0].Detail, "was asked on") || strings.Contains(warnings[0].Detail, "@") {
				t.Errorf("%s: warnings %+v", e, warnings)
			}
		}
	}
	at := now.Add(partner.ConfirmationPeriod)
	without, _, _ := set(app, at)
	again, warnings, err := set(without, at, "kim+1@example.com")
	if m, _ := again.MarkOf("kim+1@example.com"); err != nil || len(warnings) != 0 || !m.Since.Equal(at) || !again.IsConfirmationTarget("kim+1@example.com") || len(again.Confirmations) != 1 {
		t.Errorf("after its time: %+v, %v, %v, %v", m, again.Confirmations, warnings, err)
	}
	if text, err := json.Marshal(without); err != nil || strings.Contains(string(text), "kim") {
		t.Errorf("the app remembers the address itself: %s, %v", text, err)
	}
	legacy := partner.New("app1").WithMark("kim@example.com", &partner.AddressMark{State: partner.Unconfirmed, Since: now})
	if !legacy.IsConfirmationTarget("kim@example.com") {
		t.Error("a question of a version before is not asked")
	}
}

// TestNewAddressesHaveABudget: ten in any 24 h, whatever is taken out between; nothing of a refused write is counted.
func TestNewAddressesHaveABudget(t *testing.T) {
	t.Parallel()
	app := partner.New("app1")
	var err error
	for i := range 10 {
		if app, _, err = set(app, now.Add(time.Duration(i)*time.Hour), fmt.Sprintf("kim%d@example.com", i)); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		after time.Duration
		set   []string
		until time.Duration // 0: possible
	}{
		"OneMore":        {10 * time.Hour, []string{"lee@example.com"}, 24 * time.Hour},
		"TwoMore":        {10 * time.Hour, []string{"lee@example.com", "ada@example.com"}, 25 * time.Hour},
		"JustBefore":     {24*time.Hour - time.Millisecond, []string{"lee@example.com"}, 24 * time.Hour},
		"InTime":         {24 * time.Hour, []string{"lee@example.com"}, 0},
		"TwoTooEarly":    {24 * time.Hour, []string{"lee@example.com", "ada@example.com"}, 25 * time.Hour},
		"Known":          {10 * time.Hour, []string{"kim0@example.com", "kim5+x@example.com"}, 0},
		"SameTwice":      {24 * time.Hour, []string{"lee@example.com", "lee+1@example.com", "lee+2@example.com"}, 0},
		"None":           {10 * time.Hour, nil, 0},
		"ADayLaterAgain": {34 * time.Hour, []string{"a@example.com", "b@example.com", "c@example.com", "d@example.com", "e@example.com", "f@example.com", "g@example.com", "h@example.com", "i@example.com", "j@example.com"}, 0},
	} {
		_, _, err := set(app, now.Add(tt.after), tt.set...)
		beyond, refused := errors.AsType[*partner.NewAddressesError](err)
		switch {
		case refused != (tt.until > 0):
			t.Errorf("%s: %v", name, err)
		case refused && (!beyond.Until.Equal(now.Add(tt.until)) || beyond.Limit != 10 || !strings.Contains(err.Error(), beyond.Until.Format(time.RFC3339))):
			t.Errorf("%s: %+v, want until %v", name, beyond, now.Add(tt.until))
		}
	}
	eleven := partner.New("app1")
	eleven.TechnicalContact.Email = "kim@example.com"
	for i := range 10 {
		eleven.ErrorEmails = append(eleven.ErrorEmails, fmt.Sprintf("a%d@example.com", i))
	}
	_, _, err = partner.MarkNewUnconfirmed(eleven, nil, now, partner.NewAddressesADay)
	if beyond, ok := errors.AsType[*partner.NewAddressesError](err); !ok || !beyond.Until.IsZero() || beyond.New != 11 || !strings.Contains(err.Error(), "fewer at once") {
		t.Errorf("eleven at once: %v", err)
	}
	if _, _, err = partner.MarkNewUnconfirmed(eleven, nil, now, 11); err != nil {
		t.Errorf("with an operator's leave: %v", err)
	}
}
