// Package guard decides which addresses may be called for partners, and makes
// the HTTP client that can call no others.
//
// Partners choose the URLs that the service calls, from inside a network that
// holds databases, cloud metadata and other tenants. So a URL is judged twice:
// when it is set (CheckURL, CheckHost), to tell the partner at once, and at
// every connection (Control, after name resolution), which alone counts, since
// a name may resolve to something else the next time. Redirects are never
// followed and proxies never used.
//
// The ranges come from the IANA registries as code.dny.dev/ssrf generates them;
// this package adds cloud metadata addresses that look public, and the reasons.
package guard
