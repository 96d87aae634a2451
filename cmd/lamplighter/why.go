package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/lamplighter/lamplighter/internal/apply"
	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/output"
)

type whyCmd struct {
	apiFlags
	appArg
	Tenant string `arg:"" help:"The tenant's context identifier, such as Cust12345."`
}

// Run explains why a tenant's change has not arrived at an app.
func (c *whyCmd) Run(ctx context.Context, a *commandEnv) error {
	answer, err := c.sendRequest(ctx, a, client.Request{Method: http.MethodGet, Path: c.appPath("tenants", c.Tenant, "why")})
	if err != nil {
		return err
	}
	var doc struct {
		Words      string            `json:"words"`
		InStep     bool              `json:"in_step"`
		Deliveries []json.RawMessage `json:"deliveries"`
	}
	if err := json.Unmarshal(answer.Body, &doc); err != nil || doc.Words == "" {
		return client.ErrUnexpectedAnswer
	}
	if c.Output != output.Table {
		err = c.newPrinter(a).PrintDocument(answer.Body)
	} else {
		fmt.Fprintln(a.stdout, client.DropUnprintable(doc.Words))
		if len(doc.Deliveries) > 0 {
			fmt.Fprintln(a.stdout)
			err = c.newPrinter(a).PrintList(doc.Deliveries, []output.Column{
				{Title: "AT", Path: "at"},
				{Title: "CHANGE", Path: "change_type"},
				{Title: "ATTEMPT", Path: "attempt"},
				{Title: "OUTCOME", Path: "outcome"},
				{Title: "REASON", Path: "reason"},
				{Title: "STATUS", Path: "status"},
				{Title: "MS", Path: "duration_ms"},
				{Title: "EXCERPT", Path: "excerpt"},
			}, "")
		}
	}
	if err != nil {
		return err
	}
	if !doc.InStep {
		return errNotInStep
	}
	return nil
}

type resyncCmd struct {
	apiFlags
	appArg
	Tenants  []string      `arg:"" optional:"" help:"The tenants of the resync; all that approved the app when left out."`
	Progress bool          `help:"Wait until everything is delivered, and show the progress."`
	Within   time.Duration `default:"10m" help:"How long --progress waits."`
}

// Run starts a resync.
func (c *resyncCmd) Run(ctx context.Context, a *commandEnv) error {
	var body []byte
	if len(c.Tenants) > 0 {
		var err error
		if body, err = json.Marshal(map[string][]string{"tenants": c.Tenants}); err != nil {
			return err
		}
	}
	cl, err := c.newClient(a)
	if err != nil {
		return err
	}
	answer, err := cl.Do(ctx, client.Request{Method: http.MethodPost, Path: c.appPath("resync"), Body: body})
	if err != nil {
		return err
	}
	var started struct {
		Tenants *int   `json:"tenants"`
		Job     string `json:"job"`
	}
	if err := json.Unmarshal(answer.Body, &started); err != nil || started.Tenants == nil {
		return client.ErrUnexpectedAnswer
	}
	if c.Progress {
		return c.followJob(ctx, a, cl, *started.Tenants, started.Job)
	}
	if c.Output != output.Table {
		return c.newPrinter(a).PrintDocument(answer.Body)
	}
	fmt.Fprintf(a.stdout, "%s is notified of %s again.\n", c.App, apply.FormatCount(*started.Tenants, "tenant"))
	if started.Job != "" {
		fmt.Fprintf(a.stdout, "Follow it with: lamplighter jobs wait %s\n", client.DropUnprintable(started.Job))
	}
	return nil
}

// mailboxProgress is the part of a mailbox that following a resync needs.
type mailboxProgress struct {
	Waiting int    `json:"waiting"`
	Breaker string `json:"breaker"`
	Paused  bool   `json:"paused"`
}

// followJob polls until the job, if there is one, is done and nothing is pending.
func (c *resyncCmd) followJob(ctx context.Context, a *commandEnv, cl *client.Client, tenants int, job string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Within, fmt.Errorf("it is not done after %s: lamplighter mailbox get %s shows its progress", c.Within, c.App))
	defer cancel()
	began := time.Now()
	if job != "" {
		ended, _, err := awaitJob(ctx, a, cl, job)
		if err == nil {
			err = ended.errorUnlessDone(job)
		}
		if err != nil {
			return err
		}
	}
	say := newProgressLine(a)
	defer say.clearLine()
	for {
		answer, err := cl.Do(ctx, client.Request{Method: http.MethodGet, Path: c.appPath("mailbox")})
		if err != nil {
			return err
		}
		var now mailboxProgress
		if err := json.Unmarshal(answer.Body, &now); err != nil || now.Breaker == "" {
			return client.ErrUnexpectedAnswer
		}
		switch {
		case now.Waiting == 0:
			say.clearLine()
			return c.printSuccess(a, fmt.Sprintf("%s was notified of %s in %s.", c.App, apply.FormatCount(tenants, "tenant"), time.Since(began).Round(100*time.Millisecond)))
		case now.Paused:
			return fmt.Errorf("%s pending, because %s is paused: lamplighter resume %s", apply.FormatCount(now.Waiting, "notification"), c.App, c.App)
		}
		say.showProgress(fmt.Sprintf("%s waiting, breaker %s", apply.FormatCount(now.Waiting, "notification"), now.Breaker))
		if err := sleepFor(ctx, followEvery); err != nil {
			return err
		}
	}
}
