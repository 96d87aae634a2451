package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/apply"
	"github.com/lamplighter/lamplighter/internal/client"
	"github.com/lamplighter/lamplighter/internal/output"
)

// applyAttempts is how often apply tries a request, within about a minute.
const applyAttempts = 9

type applyCmd struct {
	apiFlags
	yesFlag
	File        []string `short:"f" required:"" placeholder:"FILE|DIR|-" help:"YAML files, directories of them (*.yaml, *.yml), or - for the standard input."`
	DryRun      bool     `help:"Show as a diff what would be done, and do nothing; exits with 3 when there is something to do."`
	Prune       bool     `help:"Remove the apps and approvals that are not in the files; asks first."`
	Force       bool     `help:"Switch endpoints on although their probe fails."`
	SecretsFile string   `placeholder:"FILE" help:"File for the webhook secrets of new apps, one JSON object per line; - prints them."`
	Concurrency int      `default:"8" placeholder:"N" help:"How many requests are in flight at once, 1 to 64."`
}

// errDifferent is the result of a dry run that found differences.
var errDifferent = errors.New("the service differs from the files")

// Run brings the service into the state that the files describe.
func (c *applyCmd) Run(ctx context.Context, a *commandEnv) error {
	if c.Concurrency < 1 || c.Concurrency > 64 {
		return usageError{errors.New("--concurrency must be 1 to 64")}
	}
	m, err := c.readFiles(a)
	if err != nil {
		return err
	}
	r := &apply.Runner{Concurrency: c.Concurrency, Force: c.Force}
	show := newApplyProgress(a, &r.Counts)
	cl, err := c.newClientWith(a, client.Options{Attempts: applyAttempts, Retrying: show.reportRetry})
	if err != nil {
		return err
	}
	r.API = cl
	show.start("Reading")
	plan, err := r.BuildPlan(ctx, m, c.Prune)
	show.stop()
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.printDryRun(a, plan, len(m.Apps))
	}
	if err := c.confirmPlan(a, plan); err != nil {
		return err
	}
	return c.applyPlan(ctx, a, r, plan, len(m.Apps), show)
}

// readFiles reads all files before anything is sent.
func (c *applyCmd) readFiles(a *commandEnv) (*apply.Manifest, error) {
	m := &apply.Manifest{}
	names, err := manifestFiles(c.File)
	if err != nil {
		return nil, usageError{err}
	}
	for _, name := range names {
		if err := readManifest(a, m, name); err != nil {
			return nil, usageError{err}
		}
	}
	if err := m.Err(); err != nil {
		return nil, usageError{fmt.Errorf("nothing was sent, the files are wrong:\n  %w", err)}
	}
	if len(m.Apps)+len(m.Tenants) == 0 {
		return nil, usageError{errors.New("the files have no documents: a document needs client_id, for an app, or tenant")}
	}
	return m, nil
}

func readManifest(a *commandEnv, m *apply.Manifest, name string) error {
	if name == "-" {
		return m.AddFile("standard input", a.stdin)
	}
	f, err := os.Open(name) //nolint:gosec // the caller's own argument names the file
	if err != nil {
		return fmt.Errorf("read what to apply: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := m.AddFile(name, f); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// manifestFiles lists the files of the arguments, those of directories in the order of their names.
func manifestFiles(given []string) ([]string, error) {
	var out []string
	for _, name := range given {
		info, err := os.Stat(name)
		switch {
		case name == "-":
			out = append(out, name)
			continue
		case err != nil:
			return nil, fmt.Errorf("read what to apply: %w", err)
		case !info.IsDir():
			out = append(out, name)
			continue
		}
		before := len(out)
		err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
			if ext := filepath.Ext(path); err == nil && !d.IsDir() && (ext == ".yaml" || ext == ".yml") {
				out = append(out, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read what to apply: %w", err)
		}
		if len(out) == before {
			return nil, fmt.Errorf("%s holds no .yaml or .yml file", name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (c *applyCmd) printDryRun(a *commandEnv, plan *apply.Plan, said int) error {
	sum := plan.Summarize(said)
	if c.Output != output.Table {
		if err := c.printDocument(a, struct {
			*apply.Plan
			Summary apply.Summary `json:"summary"`
		}{plan, sum}); err != nil {
			return err
		}
	} else {
		var paint apply.DiffColour
		if wantsColour(a.stdout, a.environ) {
			paint = colourDiffLine
		}
		if err := plan.Print(a.stdout, paint); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "It would be: %s.\n", sum)
	}
	if !plan.IsEmpty() {
		return errDifferent
	}
	return nil
}

// printDocument prints a value as JSON or YAML.
func (c *applyCmd) printDocument(a *commandEnv, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.newPrinter(a).PrintDocument(text)
}

func colourDiffLine(sign byte, line string) string {
	switch sign {
	case '+':
		return output.Green + line + output.Plain
	case '-':
		return output.Red + line + output.Plain
	}
	return output.Yellow + line + output.Plain
}

// maxAsked is how many removals a question lists.
const maxAsked = 20

// confirmPlan asks before anything is lost: apps, approvals, or secrets that are shown once.
func (c *applyCmd) confirmPlan(a *commandEnv, plan *apply.Plan) error {
	if n := len(plan.NewApps()); n > 0 && c.SecretsFile == "" {
		return usageError{fmt.Errorf("%s would be created, whose webhook secrets are shown once: name a file with --secrets-file, or - to print them", apply.FormatCount(n, "app"))}
	}
	apps, approvals := plan.Removals()
	if len(apps)+approvals == 0 {
		return nil
	}
	names := ""
	if len(apps) > 0 {
		names = ": " + strings.Join(apps[:min(len(apps), maxAsked)], ", ")
	}
	if len(apps) > maxAsked {
		names += " and more"
	}
	return c.confirm(a, fmt.Sprintf("Remove %s and %s%s?", apply.FormatCount(len(apps), "app"), apply.FormatCount(approvals, "approval"), names))
}

func (c *applyCmd) applyPlan(ctx context.Context, a *commandEnv, r *apply.Runner, plan *apply.Plan, said int, show *applyProgress) (err error) {
	if c.SecretsFile != "" {
		keep, err := c.openSecrets(a)
		if err != nil {
			return usageError{err}
		}
		r.Secrets = keep.Secrets
		defer func() {
			if e := keep.close(); e != nil {
				fmt.Fprintf(a.stderr, "lamplighter: %v\n", e)
			}
		}()
	}
	began := time.Now()
	show.start("Applying")
	err = r.Run(ctx, plan)
	show.stop()
	done := r.Summary()
	want := plan.Summarize(said)
	done.Unchanged, done.LeftAlone = want.Unchanged, want.LeftAlone
	if c.Output != output.Table {
		if e := c.printDocument(a, done); e != nil {
			return e
		}
	} else {
		fmt.Fprintf(a.stdout, "Applied in %s: %s.\n", time.Since(began).Round(10*time.Millisecond), done)
	}
	if err != nil {
		return fmt.Errorf("%w\n  what was done stays done; run it again for the rest", err)
	}
	return nil
}

type closableSecrets struct {
	apply.Secrets
	close func() error
}

func (c *applyCmd) openSecrets(a *commandEnv) (closableSecrets, error) {
	if c.SecretsFile == "-" {
		return closableSecrets{&apply.SecretsPrinter{W: a.stdout}, func() error { return nil }}, nil
	}
	book, err := apply.OpenSecretsFile(c.SecretsFile)
	if err != nil {
		return closableSecrets{}, err
	}
	return closableSecrets{book, book.Close}, nil
}

// applyProgress shows the progress of a run on stderr: on a terminal one line that is rewritten, otherwise a plain
// line now and then.
type applyProgress struct {
	w      io.Writer
	live   bool
	counts *apply.Counts
	what   string
	began  time.Time
	end    chan struct{}
	ended  chan struct{}
}

const (
	redrawEvery = 200 * time.Millisecond
	lineEvery   = 5 * time.Second
)

func newApplyProgress(a *commandEnv, counts *apply.Counts) *applyProgress {
	return &applyProgress{w: a.stderr, live: isTerminal(a.stderr), counts: counts}
}

func (p *applyProgress) start(what string) {
	p.what, p.began = what, time.Now()
	p.end, p.ended = make(chan struct{}), make(chan struct{})
	every := lineEvery
	if p.live {
		every = redrawEvery
	}
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.printLine()
			case <-p.end:
				return
			}
		}
	}()
}

func (p *applyProgress) printLine() {
	text := fmt.Sprintf("%s: %s of %s", p.what, apply.FormatThousands(int(p.counts.Steps.Load())), apply.FormatCount(int(p.counts.StepsTotal.Load()), "step"))
	if total := p.counts.ApprovalsTotal.Load(); p.counts.Writing.Load() && total > 0 {
		text += fmt.Sprintf(", %s of %s", apply.FormatThousands(int(p.counts.Approvals.Load())), apply.FormatCount(int(total), "approval"))
	}
	text += fmt.Sprintf(", %s", time.Since(p.began).Round(time.Second))
	if p.live {
		fmt.Fprintf(p.w, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(p.w, text)
}

// stop ends the line, and clears it on a terminal.
func (p *applyProgress) stop() {
	close(p.end)
	<-p.ended
	if p.live {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// reportRetry shows why the run waits.
func (p *applyProgress) reportRetry(err error, pause time.Duration) {
	if pause >= 2*time.Second {
		first, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintf(p.w, "waiting %s: %s\n", pause.Round(time.Second), first)
	}
}
