package alerting_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
)

func TestNewAddressesAreAskedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.app.ErrorEmails = []string{lee}
	w.app = w.app.WithMark(lee, &partner.AddressMark{State: partner.Unconfirmed, Since: w.now})
	if !w.NeedsConfirmations(&w.app) {
		t.Error("nobody would be asked")
	}
	for range 3 {
		w.after(time.Second)
	}
	w.want("asked", "confirm 1 to "+lee)
	w.after(0, blocked) // it is told to the contact, since nobody else can be reached
	w.want("failing", "confirm 1 to "+lee, "opened 1 to "+kim)
	if got := w.suppressed()["unconfirmed"]; got != 1 {
		t.Errorf("unconfirmed counted %v times", got)
	}
	if strings.Contains(w.log.String(), lee) {
		t.Errorf("the log names a recipient: %s", w.log)
	}
	w.now = w.now.Add(time.Hour)
	if w.NeedsConfirmations(&w.app) {
		t.Error("asked for ever")
	}
}

func TestBouncedAddressesAreSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.app.ErrorEmails = []string{kim, lee}
	w.app = w.app.WithMark(kim, &partner.AddressMark{State: partner.Bounced, Since: w.now, Code: 550})
	w.after(0, blocked)
	w.want("one of two bounced", "opened 1 to "+lee)
	if got := w.suppressed()["bounced"]; got != 1 {
		t.Errorf("bounced counted %v times", got)
	}
}
