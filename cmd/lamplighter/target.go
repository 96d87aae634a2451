package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
)

// defaultServer is where a service on this machine listens.
const defaultServer = "http://127.0.0.1:8080"

// apiTarget is the address of the admin API, and the token for it.
type apiTarget struct{ server, token string }

// targetSources are all sources of a server or a token.
type targetSources struct {
	// server and tokenFile are given on the command line.
	server, tokenFile string
	// envServer, envToken and envTokenFile come from the environment.
	envServer, envToken, envTokenFile string
	// kept are the tokens that login kept.
	kept credentials
	// insecure allows plain http beyond this machine.
	insecure bool
}

// chooseTarget finds the server and its token. A token is sent only to the origin it was given with, since a mistyped
// address would otherwise receive it. Both come from the command line, from the environment, or from login.
func (s *targetSources) chooseTarget() (apiTarget, error) {
	t := apiTarget{server: s.chooseServer()}
	base, err := parseServer(t.server)
	if err != nil {
		return apiTarget{}, err
	}
	if base.Scheme == "http" && !isLoopbackHost(base.Hostname()) && !s.insecure {
		return apiTarget{}, fmt.Errorf("%s is plain http beyond this machine, so the token can be intercepted: use https, or --insecure-http", formatOrigin(base))
	}
	if t.token, err = s.chooseToken(base); err == nil {
		err = checkToken(t.token)
	}
	if err != nil {
		return apiTarget{}, err
	}
	return t, nil
}

// chooseServer is the server of the command line, of the environment, or of the newest login.
func (s *targetSources) chooseServer() string {
	if s.envToken == "" && s.envTokenFile == "" && s.tokenFile == "" {
		return cmp.Or(s.server, s.envServer, s.kept.Server, defaultServer)
	}
	return cmp.Or(s.server, s.envServer, defaultServer)
}

func (s *targetSources) chooseToken(base *url.URL) (string, error) {
	switch {
	case s.tokenFile != "" && s.server == "" && s.envServer != "":
		return "", errors.New("--token-file needs --server as well: a token is only sent to the server it is given with")
	case s.tokenFile != "":
		return readToken(s.tokenFile)
	case s.envTokenFits(base) && s.envToken != "":
		return s.envToken, nil
	case s.envTokenFits(base) && s.envTokenFile != "":
		return readToken(s.envTokenFile)
	}
	if token, ok := s.kept.Tokens[formatOrigin(base)]; ok {
		return token, nil
	}
	if s.envToken != "" || s.envTokenFile != "" {
		return "", fmt.Errorf("the token of the environment is not sent to %s, which --server names: set LAMPLIGHTER_SERVER to it too, give --token-file, or use lamplighter login", formatOrigin(base))
	}
	return "", errors.New("an API token is needed: set LAMPLIGHTER_TOKEN, give --token-file, or use lamplighter login")
}

// envTokenFits reports whether the token of the environment belongs to an origin. Without LAMPLIGHTER_SERVER it
// belongs to the server on this machine.
func (s *targetSources) envTokenFits(base *url.URL) bool {
	named, err := parseServer(cmp.Or(s.envServer, defaultServer))
	return err == nil && formatOrigin(named) == formatOrigin(base)
}

// errServer states the required form of a server's URL.
var errServer = errors.New("--server must be an http or https URL without user and password, such as https://lamplighter.example")

func parseServer(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, errServer
	}
	return u, nil
}

// formatOrigin is scheme, host and port (RFC 6454, section 4).
func formatOrigin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return u.Scheme + "://" + host + ":" + port
}

func isLoopbackHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func readToken(file string) (string, error) {
	b, err := readBounded(file, maxTokenFile)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// maxTokenFile is ample for a token, and keeps a wrong file from filling the memory.
const maxTokenFile = 64 << 10

func checkToken(token string) error {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the API token is empty or contains spaces or line breaks: give only the token")
	}
	return nil
}

// readSources collects the command line, the environment and the logins.
func (f *apiFlags) readSources(a *commandEnv) (targetSources, error) {
	s := targetSources{
		server: f.Server, tokenFile: f.TokenFile, insecure: f.InsecureHTTP,
		envServer: a.envVariable("LAMPLIGHTER_SERVER"), envToken: a.envVariable("LAMPLIGHTER_TOKEN"), envTokenFile: a.envVariable("LAMPLIGHTER_TOKEN_FILE"),
	}
	if old := a.envVariable("LAMPLIGHTER_URL"); old != "" && s.envServer == "" {
		s.envServer = old
		fmt.Fprintln(a.stderr, "lamplighter: LAMPLIGHTER_URL is LAMPLIGHTER_SERVER now: it is read until the next release")
	}
	l, err := a.readCredentials()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return s, err
	}
	s.kept = l
	return s, nil
}
