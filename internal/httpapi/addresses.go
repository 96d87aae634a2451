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

// AddressChecker judges the addresses that endpoints are given; *guard.Guard does.
type AddressChecker interface {
	// CheckURL judges the text. The error is a *guard.BlockedError.
	CheckURL(raw string) (*url.URL, error)
	// CheckHost judges what the host resolves to now. The error is a *guard.BlockedError, guard.ErrNoHost, guard.ErrNoResolver or
	// that of a ctx that ended.
	CheckHost(ctx context.Context, u *url.URL) ([]netip.Addr, error)
	// CheckKey judges the certificate of the server at these addresses. The error is a *guard.ShortKeyError.
	CheckKey(ctx context.Context, u *url.URL, addrs []netip.Addr) error
}

// addressesWithin bounds the resolving of all of a request's hosts.
const addressesWithin = 8 * time.Second

// urlToCheck is a URL that a write sets or switches on.
type urlToCheck struct {
	urlMember
	*url.URL

	// called is set where pushes go there from here.
	called bool
}

// resolvedHost is what is known of a host.
type resolvedHost struct {
	addrs []netip.Addr
	err   error
}

// checkAddresses asks the guard about every URL that the write sets or switches on, the overrides
// of other environments too. URLs that stand there already are judged at each dial.
//
// What comes of a name is told to operators exactly. A partner could ask for names inside by setting URLs: it is told one thing
// of a name that does not exist and of one that leads inside, and its look-ups are few.
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

// collectURLsToCheck judges the texts of the URLs that the write sets or switches on.
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

// describeRefusedURL says why a URL is refused. What is wrong with its text, its writer may know.
func (c *call) describeRefusedURL(pointer string, err error) FieldError {
	if blocked, ok := errors.AsType[*guard.BlockedError](err); c.role.Kind != Partner || ok && blocked.Reason.IsAboutText() {
		return FieldError{Pointer: pointer, Detail: err.Error()}
	}
	return FieldError{Pointer: pointer, Detail: told.UnreachableReason().Description(partner.StateChange).String()}
}

// resolveHosts resolves the hosts that were not before, each once for a request however often its write starts over. Those of
// a partner are counted before any is asked for.
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
		if wait, ok := a.names.takeMany(string(c.role.App), names, c.factor, a.Now()); !ok {
			return tooManyRequestsProblem(budgetNames, "The host names that are looked up for this app are bounded: "+describeRate(namesBurst, namesInterval, c.factor)+". Nothing was written.", wait)
		}
	}
	ctx, cancel := context.WithTimeout(c.ctx(), addressesWithin)
	defer cancel()
	for host, u := range fresh {
		addrs, err := a.Addresses.CheckHost(ctx, u)
		if err != nil && ctx.Err() != nil { // nobody waits for it, or the time of all is over
			err = guard.ErrNoResolver
		}
		sw.resolvedHosts[host] = resolvedHost{addrs, err}
	}
	return nil
}
