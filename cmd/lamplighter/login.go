package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"github.com/lamplighter/lamplighter/internal/client"
)

// credentials is the file of kept tokens, one for each origin.
type credentials struct {
	// Server is the server of the newest login, which commands use by default.
	Server string            `json:"server"`
	Tokens map[string]string `json:"tokens"`
}

// maxCredentials limits the file.
const maxCredentials = 1 << 20

// credentialsFile is where tokens are kept: in the user's configuration directory.
func (a *commandEnv) credentialsFile() (string, error) {
	dir := a.envVariable("XDG_CONFIG_HOME")
	if dir == "" {
		home := a.envVariable("HOME")
		if home == "" {
			return "", os.ErrNotExist
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "lamplighter", "credentials.json"), nil
}

// readCredentials reads the kept tokens, and refuses a file that others can read.
func (a *commandEnv) readCredentials() (credentials, error) {
	name, err := a.credentialsFile()
	if err != nil {
		return credentials{}, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return credentials{}, fmt.Errorf("read the credentials: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return credentials{}, usageError{fmt.Errorf("%s is readable by other users: chmod 600 it, and replace its tokens", name)}
	}
	b, err := readBounded(name, maxCredentials)
	if err != nil {
		return credentials{}, fmt.Errorf("read the credentials: %w", err)
	}
	var l credentials
	if err := json.Unmarshal(b, &l); err != nil {
		return credentials{}, usageError{fmt.Errorf("%s is not a file of login: remove it and log in again", name)}
	}
	return l, nil
}

// writeCredentials replaces the file atomically.
func (a *commandEnv) writeCredentials(l credentials) error {
	name, err := a.credentialsFile()
	if err != nil {
		return usageError{errors.New("nowhere to keep the token: HOME is not set")}
	}
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".credentials-*") // mode 0600
	if err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("keep the token: %w", err)
	}
	return nil
}

type loginCmd struct {
	Server       string `required:"" placeholder:"URL" help:"Where the admin API is."`
	TokenFile    string `placeholder:"FILE" help:"File with the token; without it, the token is asked for, or read from the standard input."`
	InsecureHTTP bool   `name:"insecure-http" help:"Send the token over plain http beyond this machine."`
}

// Run keeps a token that the server accepts.
func (c *loginCmd) Run(ctx context.Context, a *commandEnv) error {
	base, err := parseServer(c.Server)
	if err != nil {
		return usageError{err}
	}
	token, err := c.askForToken(a)
	if err != nil {
		return err
	}
	kept := credentials{Tokens: map[string]string{formatOrigin(base): token}}
	s := targetSources{server: c.Server, insecure: c.InsecureHTTP, kept: kept}
	t, err := s.chooseTarget()
	if err != nil {
		return usageError{err}
	}
	cl, err := client.New(client.Options{URL: t.server, Token: t.token, UserAgent: "lamplighter-cli/" + a.build.Version, Timeout: defaultTimeout})
	if err != nil {
		return usageError{errServer}
	}
	// every role may make this request
	if _, err := cl.Do(ctx, client.Request{Method: http.MethodGet, Path: "/v1/apps", Query: buildQuery("limit", "1")}); err != nil {
		if refusal, ok := errors.AsType[*client.Refusal](err); !ok || refusal.Status != http.StatusForbidden {
			return err
		}
	}
	l, err := a.readCredentials()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if l.Tokens == nil {
		l.Tokens = map[string]string{}
	}
	l.Server, l.Tokens[formatOrigin(base)] = c.Server, token
	if err := a.writeCredentials(l); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "Logged in at %s. Commands use this server by default.\n", formatOrigin(base))
	return nil
}

// askForToken reads the token from the file, from the terminal without echo, or from the standard input.
func (c *loginCmd) askForToken(a *commandEnv) (string, error) {
	if c.TokenFile != "" {
		token, err := readToken(c.TokenFile)
		if err != nil {
			return "", usageError{err}
		}
		return token, nil
	}
	if f, ok := a.stdin.(*os.File); ok && isTerminal(f) {
		fmt.Fprint(a.stderr, "Token: ")
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.stderr)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		return string(bytes.TrimSpace(b)), nil
	}
	line, err := bufio.NewReader(io.LimitReader(a.stdin, maxTokenFile)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return string(bytes.TrimSpace(line)), nil
}

type logoutCmd struct {
	Server string `required:"" placeholder:"URL" help:"The server of the token."`
}

// Run removes a kept token. The token stays valid until token revoke.
func (c *logoutCmd) Run(a *commandEnv) error {
	base, err := parseServer(c.Server)
	if err != nil {
		return usageError{err}
	}
	l, err := a.readCredentials()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, ok := l.Tokens[formatOrigin(base)]; !ok {
		return fmt.Errorf("no token is kept for %s", formatOrigin(base))
	}
	delete(l.Tokens, formatOrigin(base))
	if known, err := parseServer(l.Server); err == nil && formatOrigin(known) == formatOrigin(base) {
		l.Server = ""
	}
	if err := a.writeCredentials(l); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "The token for %s is removed from this machine. It stays valid until lamplighter token revoke.\n", formatOrigin(base))
	return nil
}

// readBounded reads a file of limited size.
func readBounded(name string, most int64) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // the caller's own argument names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	return b, nil
}
