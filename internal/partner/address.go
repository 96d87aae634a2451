package partner

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// AddressState is why an address of an app gets no error mail.
type AddressState string

// The closed set of states.
const (
	// Unconfirmed: a partner set it, and its owner has not said yet that the mail is wanted.
	Unconfirmed AddressState = "unconfirmed"
	// Bounced: a mail server refused it for good. It is skipped until it is taken out and set anew.
	Bounced AddressState = "bounced"
)

// AddressMark is what keeps an address from getting mail, and since when.
type AddressMark struct {
	State AddressState `json:"state"`
	Since time.Time    `json:"since"`
	// Code is the mail server's, for Bounced.
	Code int `json:"code,omitempty"`
}

// Addresses are all of the app's mail addresses, each once whatever its case.
func (a *App) Addresses() []string {
	var out []string
	seen := map[string]bool{"": true}
	for _, e := range append(slices.Clone(a.ErrorEmails), a.TechnicalContact.Email) {
		if k := strings.ToLower(e); !seen[k] {
			seen[k] = true
			out = append(out, e)
		}
	}
	return out
}

// MarkOf says what keeps an address from getting mail; ok is false when nothing does.
func (a *App) MarkOf(address string) (m AddressMark, ok bool) {
	m, ok = a.AddressMarks[strings.ToLower(address)]
	return m, ok
}

// WithMark returns the app with an address marked, or not marked any more when m is nil. The app
// itself is not altered.
func (a App) WithMark(address string, m *AddressMark) App {
	a.AddressMarks = maps.Clone(a.AddressMarks)
	if a.AddressMarks == nil {
		a.AddressMarks = map[string]AddressMark{}
	}
	if m == nil {
		delete(a.AddressMarks, strings.ToLower(address))
	} else {
		a.AddressMarks[strings.ToLower(address)] = *m
	}
	return a
}

// UnreachableRecipient is a recipient that gets no error mail, and why.
type UnreachableRecipient struct {
	Address string
	State   AddressState
}

// ReachableRecipients are the recipients that can get error mail, and those who cannot. Where no error email
// can be reached, the technical contact is, so that somebody hears.
func (a *App) ReachableRecipients() (to []string, skipped []UnreachableRecipient) {
	all := a.ErrorRecipients()
	if len(a.ErrorEmails) > 0 && a.TechnicalContact.Email != "" && !slices.ContainsFunc(all, func(e string) bool { _, marked := a.MarkOf(e); return !marked }) {
		all = append(slices.Clone(all), a.TechnicalContact.Email)
	}
	seen := map[string]bool{}
	for _, e := range all {
		if k := strings.ToLower(e); seen[k] {
			continue
		} else {
			seen[k] = true
		}
		if m, marked := a.MarkOf(e); marked {
			skipped = append(skipped, UnreachableRecipient{e, m.State})
			continue
		}
		to = append(to, e)
	}
	return to, skipped
}

// keepMarks carries the marks of addresses that are still there; others' are forgotten, so that an
// address that is set anew begins anew.
func keepMarks(app App, old *App) App {
	app.AddressMarks = nil
	if old == nil {
		return app
	}
	for _, e := range app.Addresses() {
		if m, ok := old.MarkOf(e); ok {
			app = app.WithMark(e, &m)
		}
	}
	return app
}
