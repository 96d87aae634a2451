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
	// ConfirmationPeriod is how long the link in a confirmation is valid, and how long the address gets no further
	// confirmation about the same app.
	ConfirmationPeriod = 7 * 24 * time.Hour
	// NewAddressesADay is how many new addresses a partner may set for an app in newAddressesIn, unless a setting
	// says otherwise.
	NewAddressesADay = 10
	newAddressesIn   = 24 * time.Hour
	// addressHash is the length of a hash of 64 bits in hex, enough to avoid collisions between an app's recipients.
	addressHash = 16
)

// Confirmation records that an address was asked whether it wants an app's error mail.
type Confirmation struct {
	At time.Time `json:"at"`
	// To is the HashAddress of the spelling that the confirmation was sent to.
	To string `json:"to"`
}

// HashAddress is a hash of a mail address, for places that must not hold the address. Case makes no difference.
func HashAddress(address string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(address)))
	return hex.EncodeToString(sum[:])[:addressHash]
}

// ConfirmationKey is the same for all spellings of an address that usually lead to one mailbox. It ignores case, the
// form of the domain (Unicode or ASCII), and what follows a + in the local part. Only confirmations and their budgets
// may use it: on some servers an address with a +tag belongs to another person.
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

// NewAddressesError refuses a write that sets too many new addresses.
type NewAddressesError struct {
	// Limit is how many may be set in 24 h, Set is how many were set in the last 24 h, New is how many the write adds.
	Limit, Set, New int
	// Until is when the write becomes possible, zero when it adds more than Limit by itself.
	Until time.Time
}

// Error names the limit, when the write becomes possible, and that operators are not limited.
func (e *NewAddressesError) Error() string {
	text := fmt.Sprintf("A partner's token can set %d new addresses for an app in 24 h. %d were set, and this write adds %d more", e.Limit, e.Set, e.New)
	if e.Until.IsZero() {
		text += ": set fewer at once"
	} else {
		text += ": it is possible from " + e.Until.UTC().Format(time.RFC3339)
	}
	return text + ". Addresses that an operator sets do not count."
}

// MarkNewUnconfirmed marks the new addresses of a partner's write as unconfirmed, so that no address gets mail only
// because a partner typed it. old is nil for a new app. Each address gets one confirmation within ConfirmationPeriod,
// however often and in whatever spelling it is set. The warnings name the addresses that get none. limit is how many
// new addresses are possible in a day; beyond it the error is a *NewAddressesError.
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

// IsConfirmationTarget reports whether an unconfirmed address is the spelling that its confirmation is sent to.
func (a *App) IsConfirmationTarget(address string) bool {
	// Older versions stored no confirmations and sent one to each spelling.
	q, known := a.Confirmations[ConfirmationKey(address)]
	return !known || q.To == HashAddress(address)
}

// addressAt is an address and its JSON pointer into the app.
type addressAt struct{ pointer, address string }

// findNewAddresses returns the addresses of an app, each once, that the old app does not have.
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
