// Package guard decides which addresses may be called for partners, and makes the HTTP client that can call no
// others.
//
// Partners choose the URLs that the service calls, from inside a network with databases, cloud metadata and other
// tenants. So a URL is checked twice. CheckURL and CheckHost check it when it is set, so that the partner gets an
// answer at once. Control checks the address of every connection, after name resolution. Only this check is decisive,
// since a name may resolve to something else the next time. Redirects are never followed and proxies never used.
//
// The ranges come from the IANA registries as code.dny.dev/ssrf generates them;
// this package adds cloud metadata addresses that look public, and the reasons.
package guard
