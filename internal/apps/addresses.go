package apps

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

// addressesWithin bounds the time for resolving all hosts of a write.
const addressesWithin = 8 * time.Second

// urlToCheck is a URL that a write sets or switches on.
type urlToCheck struct {
	*url.URL

	pointer string
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
// Operators may set a name that does not exist yet. A partner could use writes of URLs to find names inside. So it gets
// the same answer for a name that does not exist and for one that leads inside, and its look-ups are limited.
func (c *writeCheck) checkAddresses(ctx context.Context, old *registry.AppRecord, app *partner.App) (warnings []partner.FieldError, err error) {
	checker := c.writer.opts.Addresses
	if checker == nil {
		return nil, nil
	}
	urls, faults := c.collectURLs(old, app)
	if err := c.resolveHosts(ctx, urls); err != nil {
		return nil, err
	}
	for _, u := range urls {
		host := c.hosts[u.Host]
		switch {
		case errors.Is(host.err, guard.ErrNoHost) && !c.write.Caller.Partner:
			warnings = append(warnings, partner.FieldError{Pointer: u.pointer, Detail: fmt.Sprintf("the host name %s does not resolve yet; notifications wait until it does", u.Hostname())})
		case errors.Is(host.err, guard.ErrNoResolver):
			warnings = append(warnings, partner.FieldError{Pointer: u.pointer, Detail: "its host could not be resolved in time: it is checked at each connection"})
		case host.err != nil:
			faults = append(faults, AddressFault{Pointer: u.pointer, Err: host.err})
		case u.called:
			if err := checker.CheckKey(ctx, u.URL, host.addrs); err != nil {
				faults = append(faults, AddressFault{Pointer: u.pointer, Err: err, WeakKey: true})
			}
		}
	}
	if len(faults) > 0 {
		return nil, &AddressError{Faults: faults}
	}
	return warnings, nil
}

// collectURLs lists the URLs that the write sets or switches on, and checks their texts.
func (c *writeCheck) collectURLs(old *registry.AppRecord, app *partner.App) (urls []urlToCheck, faults []AddressFault) {
	for _, k := range partner.AllEndpointKinds() {
		var before partner.Endpoint
		if old != nil {
			before = old.App.Endpoints[k]
		}
		if switchesOn(old, app, k) {
			before = partner.Endpoint{}
		}
		for _, at := range changedURLs(k, app.Endpoints[k], before) {
			u, err := c.writer.opts.Addresses.CheckURL(at.url)
			if err != nil {
				faults = append(faults, AddressFault{Pointer: at.pointer, Err: err})
				continue
			}
			called := k == partner.StateChange && at.url == app.Endpoints[k].EffectiveURL(c.writer.opts.Environment)
			urls = append(urls, urlToCheck{u, at.pointer, called})
		}
	}
	return urls, faults
}

// resolveHosts resolves the hosts that are not resolved yet: each once for a write, however often it starts over. A
// partner's look-ups are counted before the first one is made.
func (c *writeCheck) resolveHosts(ctx context.Context, urls []urlToCheck) error {
	fresh := map[string]*url.URL{}
	names := 0
	for _, u := range urls {
		_, known := c.hosts[u.Host]
		if _, twice := fresh[u.Host]; known || twice {
			continue
		}
		fresh[u.Host] = u.URL
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			names++
		}
	}
	if c.write.Caller.Partner && names > 0 {
		if wait, ok := c.writer.names.TakeMany(string(c.write.App), names, c.write.Caller.Factor, c.writer.opts.Now()); !ok {
			return &BudgetError{Budget: HostNames, Wait: wait}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, addressesWithin)
	defer cancel()
	for host, u := range fresh {
		addrs, err := c.writer.opts.Addresses.CheckHost(ctx, u)
		if err != nil && ctx.Err() != nil { // the caller disconnected, or addressesWithin is over
			err = guard.ErrNoResolver
		}
		c.hosts[host] = resolvedHost{addrs, err}
	}
	return nil
}

type urlMember struct{ pointer, url string }

// changedURLs lists the URLs of an endpoint that differ from the stored ones.
func changedURLs(k partner.EndpointKind, e, before partner.Endpoint) []urlMember {
	var out []urlMember
	pointer := "/endpoints/" + k.String()
	if e.URL != "" && e.URL != before.URL {
		out = append(out, urlMember{pointer + "/url", e.URL})
	}
	for _, env := range partner.AllEnvironments() {
		if u := e.URLs[env]; u != "" && u != before.URLs[env] {
			out = append(out, urlMember{pointer + "/urls/" + string(env), u})
		}
	}
	return out
}
