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

type jobsCmd struct {
	List   jobsListCmd   `cmd:"" help:"List jobs that run, or ended within a week, newest first."`
	Get    jobsGetCmd    `cmd:"" help:"Show a job's progress, and why its last page failed."`
	Wait   jobsWaitCmd   `cmd:"" help:"Wait until a job has ended, and show its progress; exits with 1 unless it is done."`
	Cancel jobsCancelCmd `cmd:"" help:"Cancel a resync; notifications that were sent stay sent."`
}

type jobsListCmd struct {
	listFlags
	App   string `placeholder:"CLIENT-ID" help:"Only those of one app."`
	State string `enum:"running,done,failed,cancelled,all" default:"all" help:"running, done, failed, cancelled or all."`
}

// Run lists jobs.
func (c *jobsListCmd) Run(ctx context.Context, a *commandEnv) error {
	state := c.State
	if state == "all" {
		state = ""
	}
	return c.printList(ctx, a, client.JoinPath("v1", "jobs"), buildQuery("client_id", c.App, "state", state), []output.Column{
		{Title: "ID", Path: "id"},
		{Title: "STATE", Path: "state"},
		{Title: "DONE", Path: "done"},
		{Title: "OF", Path: "of"},
		{Title: "BY", Path: "by"},
		{Title: "CREATED", Path: "created_at"},
		{Title: "REASON", Path: "reason"},
	}, "There are no such jobs.")
}

type jobArg struct {
	ID string `arg:"" help:"The job's id, from jobs list, resync or apps delete."`
}

func (c jobArg) jobPath() string { return client.JoinPath("v1", "jobs", c.ID) }

type jobsGetCmd struct {
	apiFlags
	jobArg
}

// Run shows the job.
func (c *jobsGetCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.printResource(ctx, a, c.jobPath())
}

type jobsCancelCmd struct {
	apiFlags
	jobArg
}

// Run cancels the job.
func (c *jobsCancelCmd) Run(ctx context.Context, a *commandEnv) error {
	return c.sendAndReport(ctx, a, client.Request{Method: http.MethodDelete, Path: c.jobPath()}, "Job "+c.ID+" is cancelled.")
}

type jobsWaitCmd struct {
	apiFlags
	jobArg
	Within time.Duration `default:"10m" help:"How long to wait."`
}

// Run waits for the job.
func (c *jobsWaitCmd) Run(ctx context.Context, a *commandEnv) error {
	cl, err := c.newClient(a)
	if err != nil {
		return err
	}
	ctx, cancel := withJobDeadline(ctx, c.Within, c.ID)
	defer cancel()
	job, body, err := awaitJob(ctx, a, cl, c.ID)
	if err != nil {
		return err
	}
	if c.Output != output.Table {
		err = c.newPrinter(a).PrintDocument(body)
	} else {
		_, err = fmt.Fprintln(a.stdout, job.describeJob(c.ID))
	}
	if err == nil {
		err = job.errorUnlessDone(c.ID)
	}
	return err
}

// jobProgress is the part of a job that following it needs.
type jobProgress struct {
	State  string `json:"state"`
	Done   int    `json:"done"`
	Of     int    `json:"of"`
	Detail string `json:"detail"`
}

func (j jobProgress) describeJob(id string) string {
	text := fmt.Sprintf("Job %s is %s: %d of %s.", client.DropUnprintable(id), client.DropUnprintable(j.State), j.Done, apply.FormatCount(j.Of, "tenant"))
	if j.Detail != "" {
		text += " " + client.DropUnprintable(j.Detail)
	}
	return text
}

// errorUnlessDone is nil if the job is done.
func (j jobProgress) errorUnlessDone(id string) error {
	if j.State == "done" {
		return nil
	}
	return fmt.Errorf("job %s is %s", client.DropUnprintable(id), client.DropUnprintable(j.State))
}

func withJobDeadline(ctx context.Context, within time.Duration, id string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, within, fmt.Errorf("it is not done after %s: lamplighter jobs get %s shows its progress", within, id))
}

// awaitJob polls until a job has ended, and shows its progress.
func awaitJob(ctx context.Context, a *commandEnv, cl *client.Client, id string) (job jobProgress, body []byte, err error) {
	say := newProgressLine(a)
	defer say.clearLine()
	for {
		answer, err := cl.Do(ctx, client.Request{Method: http.MethodGet, Path: client.JoinPath("v1", "jobs", id)})
		if err != nil {
			return jobProgress{}, nil, err
		}
		job = jobProgress{}
		if err := json.Unmarshal(answer.Body, &job); err != nil || job.State == "" {
			return jobProgress{}, nil, client.ErrUnexpectedAnswer
		}
		if job.State != "running" {
			return job, answer.Body, nil
		}
		text := fmt.Sprintf("%d of %s", job.Done, apply.FormatCount(job.Of, "tenant"))
		if job.Detail != "" {
			text += ": " + client.DropUnprintable(job.Detail)
		}
		say.showProgress(text)
		if err := sleepFor(ctx, followEvery); err != nil {
			return jobProgress{}, nil, err
		}
	}
}

// followEvery is the interval of polling.
const followEvery = 500 * time.Millisecond

// progressLine shows progress: on one line of a terminal, otherwise on a line every few seconds.
type progressLine struct {
	a    *commandEnv
	live bool
	told time.Time
}

func newProgressLine(a *commandEnv) *progressLine {
	return &progressLine{a: a, live: isTerminal(a.stderr)}
}

func (f *progressLine) showProgress(text string) {
	switch {
	case f.live:
		fmt.Fprint(f.a.stderr, "\r\x1b[K"+text)
	case time.Since(f.told) >= lineEvery:
		f.told = time.Now()
		fmt.Fprintln(f.a.stderr, text)
	}
}

func (f *progressLine) clearLine() {
	if f.live {
		fmt.Fprint(f.a.stderr, "\r\x1b[K")
	}
}

// sleepFor waits, and returns the cause when the context ends first.
func sleepFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
