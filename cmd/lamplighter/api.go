package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/output"
)

// defaultTimeout is how long commands wait for an answer by default.
const defaultTimeout = 15 * time.Second

// apiFlags say where the admin API is and how its answers are printed.
type apiFlags struct {
	Server       string        `placeholder:"URL" help:"Where the admin API is. Also LAMPLIGHTER_SERVER, otherwise the server of the last login, otherwise http://127.0.0.1:8080."`
	TokenFile    string        `placeholder:"FILE" help:"File with the token for --server. Otherwise the token is LAMPLIGHTER_TOKEN, or in the file LAMPLIGHTER_TOKEN_FILE, for LAMPLIGHTER_SERVER; or the one that login kept."`
	InsecureHTTP bool          `name:"insecure-http" env:"LAMPLIGHTER_INSECURE_HTTP" help:"Send the token over plain http beyond this machine."`
	Output       output.Format `short:"o" enum:"table,json,yaml" default:"table" env:"LAMPLIGHTER_OUTPUT" help:"How to print the answer: table, json or yaml."`
	Timeout      time.Duration `default:"15s" help:"How long to wait for an answer."`
}

// listFlags are the flags of commands that list.
type listFlags struct {
	apiFlags
	Limit int `default:"0" placeholder:"N" help:"Show at most this many; 0 shows all."`
}

// newClient makes the client.
func (f *apiFlags) newClient(a *commandEnv) (*client.Client, error) {
	return f.newClientWith(a, client.Options{})
}

// newClientWith makes a client with additional options.
func (f *apiFlags) newClientWith(a *commandEnv, opts client.Options) (*client.Client, error) {
	s, err := f.readSources(a)
	if err != nil {
		return nil, err
	}
	t, err := s.chooseTarget()
	if err != nil {
		return nil, usageError{err}
	}
	opts.URL, opts.Token, opts.Timeout = t.server, t.token, f.Timeout
	opts.UserAgent = "lamplighter-cli/" + a.build.Version
	c, err := client.New(opts)
	if err != nil {
		return nil, usageError{errServer}
	}
	return c, nil
}

func (f *apiFlags) newPrinter(a *commandEnv) output.Printer {
	return output.Printer{Out: a.stdout, Format: f.Output, Colour: wantsColour(a.stdout, a.environ)}
}

// sendRequest sends one request and returns its answer.
func (f *apiFlags) sendRequest(ctx context.Context, a *commandEnv, r client.Request) (client.Answer, error) {
	c, err := f.newClient(a)
	if err != nil {
		return client.Answer{}, err
	}
	return c.Do(ctx, r)
}

// sendAndPrint sends one request and prints the answered document.
func (f *apiFlags) sendAndPrint(ctx context.Context, a *commandEnv, r client.Request) error {
	answer, err := f.sendRequest(ctx, a, r)
	if err != nil {
		return err
	}
	if !json.Valid(answer.Body) {
		return client.ErrUnexpectedAnswer
	}
	return f.newPrinter(a).PrintDocument(answer.Body)
}

// printResource prints one resource.
func (f *apiFlags) printResource(ctx context.Context, a *commandEnv, path string) error {
	return f.sendAndPrint(ctx, a, client.Request{Method: http.MethodGet, Path: path})
}

// sendAndReport sends a request whose answer is only a confirmation, and prints done instead of a table.
func (f *apiFlags) sendAndReport(ctx context.Context, a *commandEnv, r client.Request, done string) error {
	if _, err := f.sendRequest(ctx, a, r); err != nil {
		return err
	}
	return f.printSuccess(a, done)
}

// printSuccess prints what was done; programs use the exit code.
func (f *apiFlags) printSuccess(a *commandEnv, words string) error {
	if f.Output != output.Table {
		return nil
	}
	_, err := fmt.Fprintln(a.stdout, words)
	return err
}

// printList prints the items of a list, page by page until the limit.
func (f *listFlags) printList(ctx context.Context, a *commandEnv, path string, query url.Values, columns []output.Column, empty string) error {
	if f.Limit < 0 {
		return usageError{errors.New("--limit must not be negative")}
	}
	c, err := f.newClient(a)
	if err != nil {
		return err
	}
	var items []json.RawMessage
	err = c.ForEachItem(ctx, path, query, f.Limit, func(item json.RawMessage) error {
		items = append(items, item)
		return nil
	})
	if err != nil {
		return err
	}
	return f.newPrinter(a).PrintList(items, columns, empty)
}

// buildQuery omits empty parameters.
func buildQuery(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

// envVariable is the value of an environment variable, empty when it is not set.
func (a *commandEnv) envVariable(name string) string {
	value := ""
	for _, v := range a.environ {
		if n, found, _ := strings.Cut(v, "="); n == name {
			value = found
		}
	}
	return value
}
