package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// maxAnswer bounds an answer of the admin API to one change.
const maxAnswer = 1 << 20

const defaultURL = "http://127.0.0.1:8080"

// apiFlags say how to reach the admin API.
type apiFlags struct {
	URL       string        `env:"LAMPLIGHTER_URL" default:"http://127.0.0.1:8080" help:"Where the admin API is."`
	Token     string        `env:"LAMPLIGHTER_TOKEN" placeholder:"lmp_…" help:"The API token; the environment keeps it out of the list of processes."`
	TokenFile string        `env:"LAMPLIGHTER_TOKEN_FILE" placeholder:"FILE" help:"File that holds the token."`
	Output    string        `enum:"table,json" default:"table" help:"How to print the answer: table or json."`
	Timeout   time.Duration `default:"15s" help:"How long to wait for the answer."`
}

type publishCmd struct {
	apiFlags
	Tenant         string `arg:"" help:"The tenant's context identifier, such as Cust12345."`
	ChangeType     string `arg:"" enum:"upgrade,backup_restored,suspend,resume,delete,move" help:"What happened: upgrade, backup_restored, suspend, resume, delete or move."`
	PublicEndpoint string `placeholder:"HOST" help:"The new host name; for move, and only there."`
	VersionName    string `help:"Name of the installed release; the last known when left out."`
	FileVersion    string `help:"Version of its files; the last known when left out."`
	OccurredAt     string `placeholder:"TIME" help:"When it happened, as 2026-11-23T20:00:00Z; recorded only."`
	IdempotencyKey string `help:"Makes a repeated call harmless; a random one when left out."`
}

// change is the body of POST /v1/state-changes.
type change struct {
	Tenant         string `json:"tenant"`
	ChangeType     string `json:"change_type"`
	VersionName    string `json:"version_name,omitempty"`
	FileVersion    string `json:"file_version,omitempty"`
	PublicEndpoint string `json:"public_endpoint,omitempty"`
	OccurredAt     string `json:"occurred_at,omitempty"`
}

// accepted is its answer.
type accepted struct {
	ID       string `json:"id"`
	Tenant   string `json:"tenant"`
	Sequence int64  `json:"sequence"`
	Apps     int    `json:"apps"`
}

// problem is what the API answers instead, by RFC 9457.
type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Pointer string `json:"pointer"`
		Detail  string `json:"detail"`
	} `json:"errors"`
}

// Run posts the change and prints what became of it.
func (c *publishCmd) Run(ctx context.Context, a *app) error {
	if c.IdempotencyKey == "" {
		c.IdempotencyKey = rand.Text()
	}
	body, err := json.Marshal(change{
		Tenant: c.Tenant, ChangeType: c.ChangeType, VersionName: c.VersionName, FileVersion: c.FileVersion,
		PublicEndpoint: c.PublicEndpoint, OccurredAt: c.OccurredAt,
	})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	answer, err := c.post(ctx, a.build.Version, "/v1/state-changes", c.IdempotencyKey, body)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	var done accepted
	if err := json.Unmarshal(answer, &done); err != nil || done.ID == "" {
		return fmt.Errorf("publish: %s did not answer as Lamplighter does: is --url right?", c.URL)
	}
	if c.Output == "json" {
		return printJSON(a, done)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "ID\tTENANT\tSEQUENCE\tAPPS\n%s\t%s\t%d\t%d\n", printable(done.ID), printable(done.Tenant), done.Sequence, done.Apps)
	return w.Flush()
}

// post sends a body and returns the answer to it, or an error in words.
func (f *apiFlags) post(ctx context.Context, version, path, idempotencyKey string, body []byte) ([]byte, error) {
	token, err := f.token()
	if err != nil {
		return nil, err
	}
	// An empty variable counts as not set, as for settings.
	base, err := url.Parse(cmp.Or(f.URL, defaultURL))
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || base.User != nil {
		return nil, usageError{errors.New("--url must be an http or https URL without user and password")}
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", idempotencyKey)
	req.Header.Set("User-Agent", "lamplighter-cli/"+version)
	// A redirect would take the token somewhere else.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer, the change may or may not be accepted: repeat it with --idempotency-key %s: %w", idempotencyKey, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer; repeat with --idempotency-key %s to see it: %w", idempotencyKey, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, refusal(resp, answer)
	}
	return answer, nil
}

// token finds the API token; a flag and the environment both land in f.
func (f *apiFlags) token() (string, error) {
	switch {
	case f.Token != "":
		return f.Token, checkToken(f.Token)
	case f.TokenFile != "":
		b, err := os.ReadFile(f.TokenFile)
		if err != nil {
			return "", usageError{fmt.Errorf("read the token: %w", err)}
		}
		token := strings.TrimSpace(string(b))
		return token, checkToken(token)
	default:
		return "", usageError{errors.New("an API token is needed: set LAMPLIGHTER_TOKEN, --token-file or --token")}
	}
}

func checkToken(token string) error {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return usageError{errors.New("the API token is empty or holds spaces or line breaks: give the token alone")}
	}
	return nil
}

// refusal puts an answer that is not a success into words.
func refusal(resp *http.Response, answer []byte) error {
	var p problem
	if err := json.Unmarshal(answer, &p); err != nil || p.Title == "" {
		return fmt.Errorf("the service answered %s without saying why: is --url right?", resp.Status)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "refused with %s: %s", resp.Status, printable(p.Title))
	if p.Detail != "" {
		b.WriteString(": " + printable(p.Detail))
	}
	for _, e := range p.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", printable(cmp.Or(e.Pointer, "(body)")), printable(e.Detail))
	}
	if after := resp.Header.Get("Retry-After"); after != "" {
		b.WriteString("\n  try again in " + printable(after) + " s")
	}
	return errors.New(b.String())
}

// printable drops what could command a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}
