package redisconn

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Mode is how the servers behind a URL are arranged.
type Mode uint8

// The closed set of modes.
const (
	// Single is one server, or a proxy that looks like one.
	Single Mode = iota
	// Sentinel asks sentinels which server is the primary.
	Sentinel
	// Cluster spreads keys over several primaries.
	Cluster
)

// String names the mode for logs.
func (m Mode) String() string {
	switch m {
	case Single:
		return "single"
	case Sentinel:
		return "sentinel"
	case Cluster:
		return "cluster"
	default:
		return "mode(" + strconv.Itoa(int(m)) + ")"
	}
}

// ErrURL reports a Redis URL that cannot be parsed. Its text never repeats the URL.
var ErrURL = errors.New("redis.url cannot be read")

const (
	defaultPort         = "6379"
	defaultSentinelPort = "26379"
)

// Address is a parsed Redis URL.
type Address struct {
	Mode Mode
	// TLS is set by the schemes that start with rediss.
	TLS bool
	// Hosts are host:port: the server, the sentinels, or some nodes of the cluster.
	Hosts []string
	// Master is the primary's name in the sentinels' configuration.
	Master string
	// DB is the database number; a Cluster has only database 0.
	DB int

	username, password string
}

// ParseAddress parses a Redis URL:
//
//	redis://[user:password@]host[:port][/db]
//	redis+sentinel://[user:password@]host[:port],host[:port]…/master[/db]
//	redis+cluster://[user:password@]host[:port],host[:port]…
//
// and the same with rediss for TLS. User and password are percent-encoded. A list of hosts is
// not a URL by RFC 3986, so net/url cannot read it.
func ParseAddress(raw string) (Address, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return Address{}, fmt.Errorf("%w: it has no scheme such as redis://", ErrURL)
	}
	var a Address
	base, mode, _ := strings.Cut(scheme, "+")
	switch mode {
	case "sentinel":
		a.Mode = Sentinel
	case "cluster":
		a.Mode = Cluster
	}
	if (base != "redis" && base != "rediss") || (a.Mode == Single && scheme != base) {
		return Address{}, fmt.Errorf("%w: the scheme must be redis, redis+sentinel or redis+cluster, or those with rediss for TLS", ErrURL)
	}
	a.TLS = base == "rediss"
	if strings.ContainsAny(rest, "?#") {
		return Address{}, fmt.Errorf("%w: options after ? or # are not supported: use the redis.* settings, and percent-encode the password", ErrURL)
	}
	if err := a.readUser(&rest); err != nil {
		return Address{}, err
	}
	hosts, path, _ := strings.Cut(rest, "/")
	if err := a.readHosts(hosts); err != nil {
		return Address{}, err
	}
	return a, a.readPath(path)
}

// readUser removes user and password from the front of rest.
func (a *Address) readUser(rest *string) error {
	i := strings.LastIndexByte(*rest, '@')
	if i < 0 {
		return nil
	}
	user, password, _ := strings.Cut((*rest)[:i], ":")
	*rest = (*rest)[i+1:]
	var err error
	if a.username, err = url.PathUnescape(user); err != nil {
		return fmt.Errorf("%w: the user name is not percent-encoded", ErrURL)
	}
	if a.password, err = url.PathUnescape(password); err != nil {
		return fmt.Errorf("%w: the password is not percent-encoded", ErrURL)
	}
	return nil
}

func (a *Address) readHosts(list string) error {
	port := defaultPort
	if a.Mode == Sentinel {
		port = defaultSentinelPort
	}
	for item := range strings.SplitSeq(list, ",") {
		host, err := parseHostPort(item, port)
		if err != nil {
			return err
		}
		a.Hosts = append(a.Hosts, host)
	}
	if a.Mode == Single && len(a.Hosts) != 1 {
		return fmt.Errorf("%w: it names %d hosts: use redis+sentinel:// or redis+cluster:// for several", ErrURL, len(a.Hosts))
	}
	return nil
}

func parseHostPort(item, port string) (string, error) {
	host, given, err := net.SplitHostPort(item)
	if err != nil {
		// Without a port; brackets around an IPv6 address stay off.
		host, given = strings.TrimSuffix(strings.TrimPrefix(item, "["), "]"), port
	}
	n, err := strconv.ParseUint(given, 10, 16)
	switch {
	case host == "":
		return "", fmt.Errorf("%w: a host is empty", ErrURL)
	case err != nil || n == 0:
		return "", fmt.Errorf("%w: a port is not a number from 1 to 65535", ErrURL)
	case strings.ContainsAny(host, " []") || strings.Contains(host, ":") && net.ParseIP(host) == nil:
		return "", fmt.Errorf("%w: a host is malformed", ErrURL)
	}
	return net.JoinHostPort(host, given), nil
}

func (a *Address) readPath(path string) error {
	path = strings.TrimSuffix(path, "/")
	db := path
	if a.Mode == Sentinel {
		a.Master, db, _ = strings.Cut(path, "/")
		if a.Master == "" {
			return fmt.Errorf("%w: the primary's name is missing: redis+sentinel://host:port,…/master/db", ErrURL)
		}
	}
	if db == "" {
		return nil
	}
	n, err := strconv.Atoi(db)
	if err != nil || n < 0 {
		return fmt.Errorf("%w: the database after the last / is not a number", ErrURL)
	}
	if a.Mode == Cluster && n != 0 {
		return fmt.Errorf("%w: a Cluster has database 0 alone", ErrURL)
	}
	a.DB = n
	return nil
}

// String returns the address without user and password.
func (a Address) String() string {
	scheme := "redis"
	if a.TLS {
		scheme = "rediss"
	}
	hosts := strings.Join(a.Hosts, ",")
	switch a.Mode {
	case Sentinel:
		return fmt.Sprintf("%s+sentinel://%s/%s/%d", scheme, hosts, a.Master, a.DB)
	case Cluster:
		return fmt.Sprintf("%s+cluster://%s", scheme, hosts)
	default:
		return fmt.Sprintf("%s://%s/%d", scheme, hosts, a.DB)
	}
}

// GoString is String: %#v must not show the password.
func (a Address) GoString() string { return a.String() }
