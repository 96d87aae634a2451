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
	// Unconfirmed: a partner set it, and the recipient has not confirmed it.
	Unconfirmed AddressState = "unconfirmed"
	// Bounced: a mail server permanently refused it. It is skipped until it is removed and set again.
	Bounced AddressState = "bounced"
)

// AllAddressStates lists the closed set.
func AllAddressStates() []AddressState { return []AddressState{Unconfirmed, Bounced} }

// AddressMark says why an address gets no mail, and since when.
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

// MarkOf returns an address's mark; ok is false when it has none and gets mail.
func (a *App) MarkOf(address string) (m AddressMark, ok bool) {
	m, ok = a.AddressMarks[strings.ToLower(address)]
	return m, ok
}

// WithMark returns the app with an address marked, or with its mark removed when m is nil. It does not
// change the app itself.
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

// ReachableRecipients returns the recipients that can get error mail, and those that cannot. When no address
// of the error emails can get any, the technical contact's is used instead.
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

// keepMarks keeps the marks of addresses that the app still has. The others are dropped, so that an address
// that is removed and set again starts without one.
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
