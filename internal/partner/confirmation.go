package partner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

const (
	// ConfirmationPeriod is how long the link is good in the mail that asks an address, and how long it is not asked again about
	// the same app.
	ConfirmationPeriod = 7 * 24 * time.Hour
	// NewAddressesADay is how many addresses a partner may set for an app in newAddressesIn that were not there, unless a
	// setting says otherwise.
	NewAddressesADay = 10
	newAddressesIn   = 24 * time.Hour
	// addressHash is 64 bits in hex: no two recipients of one app meet.
	addressHash = 16
)

// Confirmation is that an address was asked whether it wants an app's error mail.
type Confirmation struct {
	At time.Time `json:"at"`
	// To is the HashAddress of the spelling that was asked.
	To string `json:"to"`
}

// HashAddress stands for a mail address where the address itself has no place. Case makes no difference.
func HashAddress(address string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(address)))
	return hex.EncodeToString(sum[:])[:addressHash]
}

// ConfirmationKey stands for all spellings of an address that lead to one mailbox as a rule: whatever its case, the form of
// its domain (letters or ASCII) and what follows a + in its local part. Questions and their budgets count by it. Nothing
// else may: some servers give a +tag to somebody else.
func ConfirmationKey(address string) string {
	i := strings.LastIndexByte(address, '@')
	local, domain := address[:max(i, 0)], strings.ToLower(norm.NFKC.String(address[i+1:]))
	if tag := strings.IndexByte(local, '+'); tag > 0 {
		local = local[:tag]
	}
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
		domain = ascii
	}
	return HashAddress(strings.ToLower(norm.NFKC.String(local)) + "@" + domain)
}

// NewAddressesError refuses a write that sets too many addresses that were not there.
type NewAddressesError struct {
	// Limit is how many are possible in 24 h, Set how many were set in the last ones, New how many the write brings.
	Limit, Set, New int
	// Until is when the write is possible, zero when it brings more than Limit by itself.
	Until time.Time
}

// Error says which budget it is and who may go beyond it.
func (e *NewAddressesError) Error() string {
	text := fmt.Sprintf("A partner's token can set %d addresses in 24 h for an app that were not there. %d were set, and this write brings %d more", e.Limit, e.Set, e.New)
	if e.Until.IsZero() {
		text += ": set fewer at once"
	} else {
		text += ": it is possible from " + e.Until.UTC().Format(time.RFC3339)
	}
	return text + ". Addresses that an operator sets do not count."
}

// MarkNewUnconfirmed marks the addresses that a write by a partner brought as unconfirmed: nobody shall get mail because a stranger
// typed their address. old is nil for a new app. Each address is asked once while the link of its question is good,
// however often and in whatever spelling it is set: the warnings say which are not asked. limit is how many may be asked
// in a day; beyond it the error is a *NewAddressesError.
func MarkNewUnconfirmed(app App, old *App, now time.Time, limit int) (App, []FieldError, error) {
	now = now.Truncate(time.Millisecond)
	added := findNewAddresses(&app, old)
	if len(added) == 0 {
		return app, nil, nil
	}
	asked := map[string]Confirmation{}
	var lately []time.Time
	for k, q := range app.Confirmations {
		if now.Sub(q.At) < ConfirmationPeriod {
			asked[k] = q
		}
		if now.Sub(q.At) < newAddressesIn {
			lately = append(lately, q.At)
		}
	}
	var warnings []FieldError
	fresh := 0
	for _, a := range added {
		k := ConfirmationKey(a.address)
		q, known := asked[k]
		if known {
			warnings = append(warnings, FieldError{Pointer: a.pointer, Detail: q.explainAlreadyAsked(a.address)})
		} else {
			q = Confirmation{At: now, To: HashAddress(a.address)}
			asked[k], fresh = q, fresh+1
		}
		app = app.WithMark(a.address, &AddressMark{State: Unconfirmed, Since: q.At})
	}
	if over := len(lately) + fresh - limit; fresh > 0 && over > 0 {
		return App{}, nil, limitExceededError(lately, fresh, limit)
	}
	app.Confirmations = asked
	return app, warnings, nil
}

func limitExceededError(lately []time.Time, fresh, limit int) *NewAddressesError {
	e := &NewAddressesError{Limit: limit, Set: len(lately), New: fresh}
	if fresh <= limit {
		slices.SortFunc(lately, time.Time.Compare)
		e.Until = lately[len(lately)+fresh-limit-1].Add(newAddressesIn)
	}
	return e
}

func (q Confirmation) explainAlreadyAsked(address string) string {
	const day = "2006-01-02 15:04 MST"
	asked, until := q.At.UTC().Format(day), q.At.Add(ConfirmationPeriod).UTC().Format(day)
	if q.To != HashAddress(address) {
		return "was asked on " + asked + " in another spelling, and is not asked before " + until + ": set it anew after that, or have an operator set it"
	}
	return "was asked on " + asked + ", and is not asked again: the link in that mail is good until " + until
}

// IsConfirmationTarget reports whether an address that is marked as unconfirmed is the spelling that its question goes to.
func (a *App) IsConfirmationTarget(address string) bool {
	// A version before questions were kept asked each spelling.
	q, known := a.Confirmations[ConfirmationKey(address)]
	return !known || q.To == HashAddress(address)
}

// addressAt is an address and where it stands in the app.
type addressAt struct{ pointer, address string }

// findNewAddresses are the addresses of an app, each once, that the one before had not.
func findNewAddresses(app, old *App) []addressAt {
	seen := map[string]bool{"": true}
	if old != nil {
		for _, e := range old.Addresses() {
			seen[strings.ToLower(e)] = true
		}
	}
	var out []addressAt
	add := func(pointer, e string) {
		if k := strings.ToLower(e); !seen[k] {
			seen[k] = true
			out = append(out, addressAt{pointer, e})
		}
	}
	for i, e := range app.ErrorEmails {
		add(fmt.Sprintf("/error_emails/%d", i), e)
	}
	add("/technical_contact/email", app.TechnicalContact.Email)
	return out
}
