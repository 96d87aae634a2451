package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"strings"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/output"
)

type approvalsCmd struct {
	List approvalsListCmd `cmd:"" help:"List the tenants that approved an app."`
	Get  approvalsGetCmd  `cmd:"" help:"Did a tenant approve an app?"`
	On   approvalsOnCmd   `cmd:"" help:"Let tenants approve an app; it is notified of each one's status."`
	Off  approvalsOffCmd  `cmd:"" help:"Remove approvals; notifications pending for those tenants are dropped."`
}

type approvalsListCmd struct {
	listFlags
	appArg
}

// Run lists the tenants.
func (c *approvalsListCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.printList(ctx, a, c.appPath("approvals"), nil, []output.Column{{Title: "TENANT", Path: "tenant"}},
		"No tenant approved "+c.App+". Let one: lamplighter approvals on "+c.App+" TENANT")
}

type approvalsGetCmd struct {
	apiFlags
	appArg
	Tenant string `arg:"" help:"The tenant's context identifier."`
}

// Run prints the approval; without one it fails.
func (c *approvalsGetCmd) Run(ctx context.Context, a *commandEnv) error {
	err := c.printResource(ctx, a, c.appPath("approvals", c.Tenant))
	if client.RefusalStatus(err) == http.StatusNotFound {
		return fmt.Errorf("%s: %w", client.DropUnprintable(c.Tenant), err)
	}
	return err
}

type tenantsArg struct {
	Tenants []string `arg:"" optional:"" help:"The tenants' context identifiers."`
	File    string   `short:"f" placeholder:"FILE" help:"File with one tenant per line; - reads the standard input."`
}

// maxTenantLine is longer than any tenant id.
const maxTenantLine = 1024

// allTenants yields the tenants of the arguments and the file; fault is set when the file cannot be read.
func (t *tenantsArg) allTenants(a *commandEnv, fault *error) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, name := range t.Tenants {
			if !yield(name) {
				return
			}
		}
		if t.File == "" {
			return
		}
		in := a.stdin
		if t.File != "-" {
			f, err := os.Open(t.File)
			if err != nil {
				*fault = usageError{fmt.Errorf("read tenants: %w", err)}
				return
			}
			defer func() { _ = f.Close() }()
			in = f
		}
		*fault = scanLines(in, yield)
	}
}

func scanLines(in io.Reader, yield func(string) bool) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, maxTenantLine), maxTenantLine)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !yield(line) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read tenants: %w", err)
	}
	return nil
}

func (t *tenantsArg) requireTenants() error {
	if len(t.Tenants) == 0 && t.File == "" {
		return usageError{errors.New("name tenants, or a file of them with --file")}
	}
	return nil
}

type approvalsOnCmd struct {
	apiFlags
	appArg
	tenantsArg
}

// Run sends all approvals in one body, so that a hundred thousand take seconds.
func (c *approvalsOnCmd) Run(ctx context.Context, a *commandEnv) error {
	if err := c.requireTenants(); err != nil {
		return err
	}
	cl, err := c.newClient(a)
	if err != nil {
		return err
	}
	var fault error
	lines := func(yield func([]byte) bool) {
		for name := range c.allTenants(a, &fault) {
			line, err := json.Marshal(map[string]string{"tenant": name})
			if err != nil || !yield(line) {
				return
			}
		}
	}
	done, refused := 0, 0
	err = cl.SendLines(ctx, client.Request{Method: http.MethodPut, Path: c.appPath("approvals")}, lines, func(l client.LineAnswer) error {
		if l.Status == http.StatusNoContent {
			done++
			return nil
		}
		refused++
		fmt.Fprintf(a.stderr, "line %d: %d: %s%s\n", l.Line, l.Status, client.DropUnprintable(l.Detail), formatLineFaults(l))
		return nil
	})
	switch {
	case fault != nil:
		return fault
	case err != nil:
		return fmt.Errorf("after %d approvals: %w; they may be sent again", done, err)
	case refused > 0:
		were := "were"
		if refused == 1 {
			were = "was"
		}
		return fmt.Errorf("%d approvals are in place, %d %s refused", done, refused, were)
	}
	return c.printSuccess(a, describeApprovals(done, c.App)+" in place.")
}

// describeApprovals is the beginning of a sentence about approvals.
func describeApprovals(n int, app string) string {
	if n == 1 {
		return "1 approval of " + app + " is"
	}
	return fmt.Sprintf("%d approvals of %s are", n, app)
}

func formatLineFaults(l client.LineAnswer) string {
	var b strings.Builder
	for _, e := range l.Errors {
		fmt.Fprintf(&b, " %s: %s", client.DropUnprintable(e.Pointer), client.DropUnprintable(e.Detail))
	}
	return b.String()
}

type approvalsOffCmd struct {
	apiFlags
	appArg
	tenantsArg
}

// Run removes them one by one.
func (c *approvalsOffCmd) Run(ctx context.Context, a *commandEnv) error {
	if err := c.requireTenants(); err != nil {
		return err
	}
	cl, err := c.newClient(a)
	if err != nil {
		return err
	}
	var fault error
	done := 0
	for name := range c.allTenants(a, &fault) {
		if _, err := cl.Do(ctx, client.Request{Method: http.MethodDelete, Path: c.appPath("approvals", name)}); err != nil {
			return fmt.Errorf("after %d approvals: %s: %w", done, client.DropUnprintable(name), err)
		}
		done++
	}
	if fault != nil {
		return fault
	}
	return c.printSuccess(a, describeApprovals(done, c.App)+" taken back.")
}
