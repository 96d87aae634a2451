package wire

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// Destination is where requests go, prepared from a URL. It does not change.
type Destination struct {
	// key identifies the host, address is what is dialled.
	key, address string
	tls          bool
	serverName   string
	head         []byte
	host         string
}

// errNoHost reports a URL without a usable scheme or host.
var errNoHost = errors.New("a destination needs the scheme http or https, and a host")

// NewDestination prepares a URL, whose host MUST be in normal form: lower-case ASCII.
func NewDestination(u *url.URL) (*Destination, error) {
	secure := u.Scheme == "https"
	if u.Hostname() == "" || !secure && u.Scheme != "http" {
		return nil, errNoHost
	}
	port := u.Port()
	switch {
	case port != "":
	case secure:
		port = "443"
	default:
		port = "80"
	}
	d := &Destination{address: net.JoinHostPort(u.Hostname(), port), tls: secure, serverName: u.Hostname(), host: u.Host}
	d.key = u.Scheme + "://" + d.address
	target := u.RequestURI()
	if strings.ContainsAny(target+u.Host, "\r\n ") { // url.Parse rejects these
		return nil, errNoHost
	}
	d.head = []byte("POST " + target + " HTTP/1.1\r\nHost: " + u.Host + "\r\n")
	return d, nil
}

// Secure reports whether TLS carries the requests.
func (d *Destination) Secure() bool { return d.tls }

// Host is the host and port as the URL names them.
func (d *Destination) Host() string { return d.host }
