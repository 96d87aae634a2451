package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/output"
	"github.com/lamplighter/lamplighter/internal/smallfile"
)

type appsCmd struct {
	List         appsListCmd   `cmd:"" help:"List the apps."`
	Get          appsGetCmd    `cmd:"" help:"Show an app."`
	Create       appsCreateCmd `cmd:"" help:"Register an app."`
	Set          appsSetCmd    `cmd:"" help:"Change an app's settings; members that are left out stay."`
	Delete       appsDeleteCmd `cmd:"" help:"Remove an app with its approvals, mailbox and incidents."`
	RotateSecret appsRotateCmd `cmd:"" help:"Replace an app's webhook secret; the old one stays valid for a while."`
}

type appArg struct {
	App string `arg:"" name:"app" help:"The app's client id."`
}

func (c appArg) appPath(more ...string) string {
	return client.JoinPath(append([]string{"v1", "apps", c.App}, more...)...)
}

type appsListCmd struct{ listFlags }

// Run lists the apps.
func (c *appsListCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.printList(ctx, a, client.JoinPath("v1", "apps"), nil, []output.Column{
		{Title: "CLIENT ID", Path: "client_id"},
		{Title: "NAME", Path: "name"},
		{Title: "CONTACT", Path: "technical_contact.email"},
		{Title: "STATE CHANGE URL", Path: "endpoints.state_change.effective_url"},
		{Title: "ON", Path: "endpoints.state_change.enabled"},
		{Title: "PAUSED", Path: "paused"},
	}, "There are no apps. Register one with: lamplighter apps create")
}

type appsGetCmd struct {
	apiFlags
	appArg
}

// Run shows one app.
func (c *appsGetCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.printResource(ctx, a, c.appPath())
}

// appFlags are the members of an app. A nil one is left out. The tag member is the member's name in the API, behind the name of the
// object that holds it.
type appFlags struct {
	ContactName      *string   `member:"technical_contact.name" placeholder:"TEXT" help:"The technical contact's name."`
	ContactEmail     *string   `member:"technical_contact.email" placeholder:"ADDRESS" help:"The technical contact's address, which gets a mail when an endpoint fails."`
	ContactTimeZone  *string   `member:"technical_contact.time_zone" placeholder:"ZONE" help:"The time zone of the mails, such as Europe/Oslo."`
	ErrorEmails      *[]string `member:"error_emails" placeholder:"ADDRESS,…" help:"Addresses that get the mails instead of the technical contact, at most 10; empty for none."`
	TokenAlgorithm   *string   `member:"token_algorithm" placeholder:"RS256|ES256" help:"How the app's tokens are signed."`
	ProbeTenant      *string   `member:"probe_tenant" placeholder:"TENANT" help:"The tenant that tests use if possible."`
	RequiredLicenses *[]string `member:"required_licenses" placeholder:"LICENSE,…" help:"Licences that the app needs."`
	GrantedLicenses  *[]string `member:"granted_licenses" placeholder:"LICENSE,…" help:"Licences that it has; only an admin may change them."`
	BudgetFactor     *int      `member:"budget_factor" placeholder:"N" help:"Multiplies the app's budgets, from 1 to 100; only an operator or admin may change it."`
	PublicKeyFile    *[]string `member:"public_keys" placeholder:"FILE,…" help:"Files with the app's public keys, PEM or RSAKeyValue."`
}

// buildAppDocument is the part of an app that the flags set.
func (f *appFlags) buildAppDocument() (map[string]any, error) {
	doc := map[string]any{}
	v := reflect.ValueOf(*f)
	for i := range v.NumField() {
		if v.Field(i).IsNil() {
			continue
		}
		value := v.Field(i).Elem().Interface()
		if list, ok := value.([]string); ok {
			value = dropEmpty(list)
		}
		setAtPath(doc, v.Type().Field(i).Tag.Get("member"), value)
	}
	if f.PublicKeyFile != nil { // the flag names files
		keys, err := readPublicKeys(*f.PublicKeyFile)
		if err != nil {
			return nil, err
		}
		doc["public_keys"] = keys
	}
	return doc, nil
}

// setAtPath sets a member of a document, or of an object in it.
func setAtPath(doc map[string]any, path string, value any) {
	if object, name, nested := strings.Cut(path, "."); nested {
		inner, _ := doc[object].(map[string]any)
		if inner == nil {
			inner = map[string]any{}
			doc[object] = inner
		}
		setAtPath(inner, name, value)
		return
	}
	doc[path] = value
}

// setMember sets a member if its flag was given.
func setMember[T any](doc map[string]any, name string, v *T) {
	if v != nil {
		doc[name] = *v
	}
}

// dropEmpty makes an empty flag an empty list.
func dropEmpty(list []string) []string {
	return slices.DeleteFunc(append([]string{}, list...), func(s string) bool { return s == "" })
}

func readPublicKeys(files []string) ([]string, error) {
	keys := []string{}
	for _, name := range dropEmpty(files) {
		b, err := smallfile.ReadFile(name)
		if err != nil {
			return nil, usageError{fmt.Errorf("read a public key: %w", err)}
		}
		keys = append(keys, string(b))
	}
	return keys, nil
}

type appsCreateCmd struct {
	apiFlags
	appArg
	Name string `required:"" placeholder:"TEXT" help:"The app's name."`
	appFlags
	StateChangeURL string `placeholder:"URL" help:"The URL for state changes; if it is given, the endpoint is switched on."`
	secretFlags
}

// secretFlags say where to write a webhook secret, which the service shows only once.
type secretFlags struct {
	SecretFile string `xor:"secret" placeholder:"FILE" help:"Write the webhook secret to a new file, readable only by its owner."`
	ShowSecret bool   `xor:"secret" help:"Print the webhook secret."`
}

func (f *secretFlags) requireSecretOutput() error {
	if f.SecretFile == "" && !f.ShowSecret {
		return usageError{errors.New("the webhook secret is shown once: say where it goes, with --secret-file FILE or --show-secret")}
	}
	return nil
}

// Run registers the app, and fails if it exists.
func (c *appsCreateCmd) Run(ctx context.Context, a *commandEnv) error {
	if err := c.requireSecretOutput(); err != nil {
		return err
	}
	doc, err := c.buildAppDocument()
	if err != nil {
		return err
	}
	doc["name"] = c.Name
	if c.StateChangeURL != "" {
		doc["endpoints"] = map[string]any{"state_change": map[string]any{"url": c.StateChangeURL, "enabled": true}}
	}
	return c.requestSecret(ctx, a, &c.apiFlags, doc, client.Request{Method: http.MethodPut, Path: c.appPath(), IfNoneMatch: "*"},
		fmt.Sprintf("App %s is registered. Let a tenant approve it: lamplighter approvals on %s TENANT", c.App, c.App))
}

// requestSecret sends a request whose answer has a webhook secret, and writes the secret out.
func (f *secretFlags) requestSecret(ctx context.Context, a *commandEnv, api *apiFlags, doc map[string]any, r client.Request, done string) error {
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	file, err := f.createSecretFile()
	if err != nil {
		return err
	}
	defer file.removeIfUnused()
	r.Body = body
	answer, err := api.sendRequest(ctx, a, r)
	if err != nil {
		return err
	}
	var made struct {
		Secret   string              `json:"webhook_secret"`
		Warnings []client.FieldError `json:"warnings"`
	}
	if err := json.Unmarshal(answer.Body, &made); err != nil || made.Secret == "" {
		return client.ErrUnexpectedAnswer
	}
	if err := file.writeAndClose(made.Secret); err != nil {
		return err
	}
	for _, w := range made.Warnings {
		fmt.Fprintf(a.stderr, "warning: %s: %s\n", client.DropUnprintable(w.Pointer), client.DropUnprintable(w.Detail))
	}
	switch {
	case f.ShowSecret && api.Output == output.Table:
		fmt.Fprintln(a.stdout, client.DropUnprintable(made.Secret))
		fmt.Fprintln(a.stderr, done)
		return nil
	case api.Output != output.Table && f.ShowSecret:
		return api.newPrinter(a).PrintDocument(answer.Body)
	}
	return api.printSuccess(a, done)
}

// secretFile is the file of --secret-file. It is created before the secret is made, so that a file that cannot be
// written loses no secret. The zero value writes nothing.
type secretFile struct{ f *os.File }

func (f *secretFlags) createSecretFile() (*secretFile, error) {
	if f.SecretFile == "" {
		return &secretFile{}, nil
	}
	file, err := os.OpenFile(f.SecretFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, usageError{fmt.Errorf("the file for the secret: %w", err)}
	}
	return &secretFile{f: file}, nil
}

// writeAndClose writes the secret and closes the file.
func (s *secretFile) writeAndClose(secret string) error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	_, err := f.WriteString(secret + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("the webhook secret was made but could not be written, make another with lamplighter apps rotate-secret: %w", err)
	}
	return nil
}

// removeIfUnused removes the file when no secret was made.
func (s *secretFile) removeIfUnused() {
	if s.f != nil {
		_ = s.f.Close()
		_ = os.Remove(s.f.Name())
	}
}

type appsSetCmd struct {
	apiFlags
	appArg
	Name *string `placeholder:"TEXT" help:"The app's name."`
	appFlags
	IfMatch string `placeholder:"ETAG" help:"Change the app only if it still has this version: its revision in quotes."`
}

// Run sends the given members as a merge patch.
func (c *appsSetCmd) Run(ctx context.Context, a *commandEnv) error {
	doc, err := c.buildAppDocument()
	if err != nil {
		return err
	}
	setMember(doc, "name", c.Name)
	return c.patchAndPrint(ctx, a, c.appPath(), doc, c.IfMatch)
}

// patchAndPrint sends a merge patch and prints the result.
func (f *apiFlags) patchAndPrint(ctx context.Context, a *commandEnv, path string, doc map[string]any, ifMatch string) error {
	if len(doc) == 0 {
		return usageError{errors.New("say what to change: --help lists the flags")}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return f.sendAndPrint(ctx, a, client.Request{Method: http.MethodPatch, Path: path, Body: body, IfMatch: ifMatch})
}

type appsDeleteCmd struct {
	apiFlags
	appArg
	yesFlag
}

// Run removes the app after a confirmation.
func (c *appsDeleteCmd) Run(ctx context.Context, a *commandEnv) error {
	if err := c.confirm(a, fmt.Sprintf("Remove app %s with its approvals, its pending notifications and its incidents?", c.App)); err != nil {
		return err
	}
	answer, err := c.sendRequest(ctx, a, client.Request{Method: http.MethodDelete, Path: c.appPath()})
	if err != nil {
		return err
	}
	words := "App " + c.App + " is removed."
	if job := path.Base(answer.Location); answer.Location != "" {
		words += " A job removes the rest: lamplighter jobs wait " + client.DropUnprintable(job)
	}
	return c.printSuccess(a, words)
}

type appsRotateCmd struct {
	apiFlags
	appArg
	Grace *time.Duration `placeholder:"24h" help:"How long the old secret stays valid; the service's default is 24h."`
	secretFlags
}

// Run replaces the secret.
func (c *appsRotateCmd) Run(ctx context.Context, a *commandEnv) error {
	if err := c.requireSecretOutput(); err != nil {
		return err
	}
	doc := map[string]any{}
	if c.Grace != nil {
		doc["grace_seconds"] = int64(*c.Grace / time.Second)
	}
	return c.requestSecret(ctx, a, &c.apiFlags, doc, client.Request{Method: http.MethodPost, Path: c.appPath("secrets")},
		"The webhook secret of "+c.App+" is replaced; the old one stays valid for the grace period.")
}
