package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/told"
)

// AddressChecker checks the addresses of endpoints; *guard.Guard is one.
type AddressChecker interface {
	// CheckURL checks the text. The error is a *guard.BlockedError.
	CheckURL(raw string) (*url.URL, error)
	// CheckHost resolves the host and checks its addresses. The error is a *guard.BlockedError, guard.ErrNoHost,
	// guard.ErrNoResolver or that of a ctx that ended.
	CheckHost(ctx context.Context, u *url.URL) ([]netip.Addr, error)
	// CheckKey checks the certificate of the server at these addresses. The error is a *guard.ShortKeyError.
	CheckKey(ctx context.Context, u *url.URL, addrs []netip.Addr) error
}

// addressesWithin bounds the time for resolving all hosts of a request.
const addressesWithin = 8 * time.Second

// urlToCheck is a URL that a write sets or switches on.
type urlToCheck struct {
	urlMember
	*url.URL

	// called is set for the URL that this deployment sends notifications to.
	called bool
}

// resolvedHost is the result of resolving a host.
type resolvedHost struct {
	addrs []netip.Addr
	err   error
}

// checkAddresses checks every URL that the write sets or switches on, with the guard, the overrides of other
// environments too. URLs that are stored already are checked at each dial.
//
// Operators get the exact result for a name. A partner could use writes of URLs to find names inside. So it gets the
// same answer for a name that does not exist and for one that leads inside, and its look-ups are limited.
func (a *API) checkAddresses(c *call, old *registry.AppRecord, app partner.App, sw *switchChecker) (warnings []FieldError, err error) {
	if a.Addresses == nil {
		return nil, nil
	}
	urls, faults := a.collectURLsToCheck(c, old, &app)
	if err := a.resolveHosts(c, urls, sw); err != nil {
		return nil, err
	}
	for _, u := range urls {
		host := sw.resolvedHosts[u.Host]
		switch {
		case errors.Is(host.err, guard.ErrNoHost) && c.role.Kind != Partner:
			warnings = append(warnings, FieldError{Pointer: u.pointer, Detail: fmt.Sprintf("the host name %s does not resolve yet; notifications wait until it does", u.Hostname())})
		case errors.Is(host.err, guard.ErrNoResolver):
			warnings = append(warnings, FieldError{Pointer: u.pointer, Detail: "its host could not be resolved in time: it is checked at each connection"})
		case host.err != nil:
			faults = append(faults, c.describeRefusedURL(u.pointer, host.err))
		case u.called:
			if err := a.Addresses.CheckKey(c.ctx(), u.URL, host.addrs); err != nil {
				faults = append(faults, FieldError{Pointer: u.pointer, Detail: told.FindCause("tls_weak_key").Description(partner.StateChange)})
			}
		}
	}
	if len(faults) > 0 {
		return nil, invalidProblem(faults...)
	}
	return warnings, nil
}

// collectURLsToCheck lists the URLs that the write sets or switches on, and checks their texts.
func (a *API) collectURLsToCheck(c *call, old *registry.AppRecord, app *partner.App) (urls []urlToCheck, faults []FieldError) {
	for _, k := range partner.AllEndpointKinds() {
		var before partner.Endpoint
		if old != nil {
			before = old.App.Endpoints[k]
		}
		if switchesOn(old, app, k) {
			before = partner.Endpoint{}
		}
		for _, at := range changedEndpointURLs(k, app.Endpoints[k], before) {
			u, err := a.Addresses.CheckURL(at.url)
			if err != nil {
				faults = append(faults, c.describeRefusedURL(at.pointer, err))
				continue
			}
			called := k == partner.StateChange && at.url == app.Endpoints[k].EffectiveURL(a.Environment)
			urls = append(urls, urlToCheck{at, u, called})
		}
	}
	return urls, faults
}

// describeRefusedURL says why a URL is refused. A partner gets the exact reason only if it is about the URL's text.
func (c *call) describeRefusedURL(pointer string, err error) FieldError {
	if blocked, ok := errors.AsType[*guard.BlockedError](err); c.role.Kind != Partner || ok && blocked.Reason.IsAboutText() {
		return FieldError{Pointer: pointer, Detail: err.Error()}
	}
	return FieldError{Pointer: pointer, Detail: told.UnreachableReason().Description(partner.StateChange).String()}
}

// resolveHosts resolves the hosts that are not resolved yet: each once for a request, however often its write starts over.
// A partner's look-ups are counted before the first one is made.
func (a *API) resolveHosts(c *call, urls []urlToCheck, sw *switchChecker) error {
	fresh := map[string]*url.URL{}
	names := 0
	for _, u := range urls {
		_, known := sw.resolvedHosts[u.Host]
		if _, twice := fresh[u.Host]; known || twice {
			continue
		}
		fresh[u.Host] = u.URL
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			names++
		}
	}
	if c.role.Kind == Partner && names > 0 {
		if wait, ok := a.names.TakeMany(string(c.role.App), names, c.factor, a.Now()); !ok {
			return tooManyRequestsProblem(budgetNames, "The number of host names that are looked up for this app is limited: "+describeRate(namesBurst, namesInterval, c.factor)+". Nothing was written.", wait)
		}
	}
	ctx, cancel := context.WithTimeout(c.ctx(), addressesWithin)
	defer cancel()
	for host, u := range fresh {
		addrs, err := a.Addresses.CheckHost(ctx, u)
		if err != nil && ctx.Err() != nil { // the caller disconnected, or addressesWithin is over
			err = guard.ErrNoResolver
		}
		sw.resolvedHosts[host] = resolvedHost{addrs, err}
	}
	return nil
}
