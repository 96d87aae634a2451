package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/output"
	"github.com/lamplighter/lamplighter/internal/partner"
)

type endpointsCmd struct {
	List endpointsListCmd `cmd:"" help:"List an app's endpoints with their health."`
	Get  endpointsGetCmd  `cmd:"" help:"Show an endpoint."`
	Set  endpointsSetCmd  `cmd:"" help:"Change an endpoint's addresses and mails."`
	On   endpointsOnCmd   `cmd:"" help:"Switch an endpoint on; what is pending for it is delivered."`
	Off  endpointsOffCmd  `cmd:"" help:"Switch an endpoint off; the newest changes are kept for it."`
	Test endpointsTestCmd `cmd:"" help:"Test an endpoint now and show the result; exits with 1 if it fails."`
}

type endpointArg struct {
	appArg
	Endpoint string `arg:"" enum:"state_change,erp_sync,quote_connector,mirroring" help:"state_change, erp_sync, quote_connector or mirroring."`
}

func (c endpointArg) endpointPath(more ...string) string {
	return c.appPath(append([]string{"endpoints", c.Endpoint}, more...)...)
}

type endpointsListCmd struct {
	apiFlags
	appArg
}

// Run reads each endpoint, for its health.
func (c *endpointsListCmd) Run(ctx context.Context, a *commandEnv) error {
	cl, err := c.newClient(a)
	if err != nil {
		return err
	}
	var items []json.RawMessage
	for _, kind := range partner.AllEndpointKinds() {
		answer, err := cl.Do(ctx, client.Request{Method: http.MethodGet, Path: c.appPath("endpoints", kind.String())})
		if err != nil {
			return err
		}
		var doc map[string]json.RawMessage
		if err := json.Unmarshal(answer.Body, &doc); err != nil {
			return client.ErrUnexpectedAnswer
		}
		if doc["endpoint"], err = json.Marshal(kind.String()); err != nil {
			return err
		}
		item, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		items = append(items, item)
	}
	return c.newPrinter(a).PrintList(items, []output.Column{
		{Title: "ENDPOINT", Path: "endpoint"},
		{Title: "ON", Path: "enabled"},
		{Title: "OFF BY", Path: "off_by"},
		{Title: "HEALTH", Path: "health.state"},
		{Title: "REASON", Path: "health.reason"},
		{Title: "SINCE", Path: "health.since"},
		{Title: "MAILS", Path: "send_error_emails"},
		{Title: "URL HERE", Path: "effective_url"},
	}, "")
}

type endpointsGetCmd struct {
	apiFlags
	endpointArg
}

// Run shows one endpoint.
func (c *endpointsGetCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.printResource(ctx, a, c.endpointPath())
}

type endpointsSetCmd struct {
	apiFlags
	endpointArg
	EndpointURL     *string `name:"to" placeholder:"URL" help:"The address for all environments; empty removes it."`
	SodURL          *string `name:"sod" placeholder:"URL" help:"The address only in sod; empty removes it."`
	StageURL        *string `name:"stage" placeholder:"URL" help:"The address only in stage; empty removes it."`
	OnlineURL       *string `name:"online" placeholder:"URL" help:"The address only in online; empty removes it."`
	SendErrorEmails *bool   `negatable:"" help:"Whether mails are sent when it fails."`
	IfMatch         string  `placeholder:"ETAG" help:"Change it only if the app still has this version: its revision in quotes."`
}

// Run sends the given members as a merge patch.
func (c *endpointsSetCmd) Run(ctx context.Context, a *commandEnv) error {
	doc, urls := map[string]any{}, map[string]any{}
	setMember(doc, "url", c.EndpointURL)
	setMember(doc, "send_error_emails", c.SendErrorEmails)
	for name, v := range map[string]*string{"sod": c.SodURL, "stage": c.StageURL, "online": c.OnlineURL} {
		switch {
		case v == nil:
		case *v == "":
			urls[name] = nil
		default:
			urls[name] = *v
		}
	}
	if len(urls) > 0 {
		doc["urls"] = urls
	}
	return c.patchAndPrint(ctx, a, c.endpointPath(), doc, c.IfMatch)
}

type endpointsOnCmd struct {
	apiFlags
	endpointArg
	Force bool `help:"Switch it on although its probe fails."`
}

// Run switches it on.
func (c *endpointsOnCmd) Run(ctx context.Context, a *commandEnv) error {
	r := client.Request{Method: http.MethodPatch, Path: c.endpointPath(), Body: []byte(`{"enabled":true}`)}
	if c.Force {
		r.Query = buildQuery("force", "true")
	}
	return c.sendAndPrint(ctx, a, r)
}

type endpointsOffCmd struct {
	apiFlags
	endpointArg
}

// Run switches it off.
func (c *endpointsOffCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.patchAndPrint(ctx, a, c.endpointPath(), map[string]any{"enabled": false}, "")
}

type endpointsTestCmd struct {
	apiFlags
	endpointArg
}

// errFailing and errUnchecked are the failed results of a test.
var (
	errFailing   = errors.New("the endpoint fails")
	errUnchecked = errors.New("the endpoint could not be tested, which says nothing about it")
)

// Run tests the endpoint; the exit code says whether it fails.
func (c *endpointsTestCmd) Run(ctx context.Context, a *commandEnv) error {
	answer, err := c.sendRequest(ctx, a, client.Request{Method: http.MethodPost, Path: c.endpointPath("test")})
	if err != nil {
		return err
	}
	var result struct {
		Outcome string `json:"outcome"`
	}
	if err := json.Unmarshal(answer.Body, &result); err != nil || result.Outcome == "" {
		return client.ErrUnexpectedAnswer
	}
	if err := c.newPrinter(a).PrintDocument(answer.Body); err != nil {
		return err
	}
	if result.Outcome == "unchecked" {
		return errUnchecked
	}
	if result.Outcome != "healthy" {
		return fmt.Errorf("%w: see lamplighter deliveries list %s", errFailing, c.App)
	}
	return nil
}
