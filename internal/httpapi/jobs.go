package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/jobs"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// Jobs shows and cancels the work that is done for whole apps.
type Jobs interface {
	// List returns a page, newest first; next is empty on the last. A page may be short although there is a next one.
	List(ctx context.Context, q jobs.Query) (list []mailbox.Job, next string, err error)
	// Job returns registry.ErrNotFound where there is none.
	Job(ctx context.Context, id mailbox.JobID) (mailbox.Job, error)
	// Cancel may be repeated. Errors: registry.ErrNotFound, jobs.ErrKept, jobs.ErrOver.
	Cancel(ctx context.Context, id mailbox.JobID) error
}

type jobAnswer struct {
	ID        string            `json:"id"`
	Kind      mailbox.JobKind   `json:"kind" doc:"clear: removing the data of a deleted app; resync: sending an app the status of all its tenants again; catch_up: sending it the status that it never received."`
	ClientID  partner.ClientID  `json:"client_id"`
	State     mailbox.JobState  `json:"state"`
	Done      int64             `json:"done" api:"min=0" doc:"Tenants that are done, never more than of."`
	Of        int64             `json:"of" api:"min=0" doc:"The number of tenants when it began; a resync that is requested again counts them again."`
	Skipped   int64             `json:"skipped,omitempty" api:"min=1" doc:"How many of them this version cannot read."`
	By        string            `json:"by,omitempty" doc:"Who requested it; absent when the service did."`
	CreatedAt time.Time         `json:"created_at"`
	UpdatedAt time.Time         `json:"updated_at"`
	EndedAt   time.Time         `json:"ended_at,omitzero"`
	Reason    mailbox.JobReason `json:"reason,omitempty" doc:"Why the current page failed, or why the job ended so."`
	Detail    string            `json:"detail,omitempty" doc:"The reason in words."`
	Tries     int               `json:"tries,omitempty" api:"min=1" doc:"How often the current page failed."`
	RetryAt   time.Time         `json:"retry_at,omitzero"`
}

func newJobAnswer(j mailbox.Job) jobAnswer {
	return jobAnswer{
		ID: j.ID.String(), Kind: j.ID.Kind, ClientID: j.ID.App, State: j.State, Done: j.Done, Of: j.Of, Skipped: j.Skipped, By: j.By,
		CreatedAt: j.Created, UpdatedAt: j.Updated, EndedAt: j.Ended, Reason: j.Reason, Detail: j.Reason.Describe(), Tries: j.Tries, RetryAt: j.RetryAt,
	}
}

// partnerJobKinds are the kinds of jobs of its app that a partner sees: those that it may start, and the one that follows
// the first URL.
func partnerJobKinds() []mailbox.JobKind {
	return []mailbox.JobKind{mailbox.JobResync, mailbox.JobCatchUp}
}

func (a *API) jobRoutes() []route {
	may := allowRoles(Partner, Operator)
	return []route{
		{"listJobs", "GET", "/v1/jobs", may, noBody, []int{200, 304}, a.listJobs},
		{"getJob", "GET", "/v1/jobs/{id}", may, noBody, []int{200}, a.getJob},
		{"cancelJob", "DELETE", "/v1/jobs/{id}", may, noBody, []int{204}, a.cancelJob},
	}
}

func (a *API) listJobs(c *call) error {
	p, err := c.readPage("jobs", "client_id", "state")
	if err != nil {
		return err
	}
	app, err := c.readAppFilter("client_id")
	if err != nil {
		return err
	}
	q := jobs.Query{App: app, State: mailbox.JobState(c.r.URL.Query().Get("state")), After: p.after, Limit: p.limit}
	if q.State != "" && !slices.Contains(mailbox.JobStates(), q.State) {
		return invalidProblem(FieldError{Pointer: "/state", Detail: "must be one of " + joinStrings(mailbox.JobStates())})
	}
	if c.role.Kind == Partner {
		q.Kinds = partnerJobKinds()
	}
	c.app = app
	list, next, err := a.Jobs.List(c.ctx(), q)
	if errors.Is(err, mailbox.ErrCursor) {
		return badCursorProblem()
	}
	if err != nil {
		return err
	}
	items := make([]jobAnswer, len(list))
	for i, j := range list {
		items[i] = newJobAnswer(j)
	}
	return answerList(c, p, items, next)
}

func joinStrings[T ~string](set []T) string {
	words := make([]string, len(set))
	for i, s := range set {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}

// readPathJob reads the path's job. A job that a partner may not see counts as not found.
func (a *API) readPathJob(c *call) (mailbox.Job, error) {
	id, err := mailbox.ParseJobID(c.r.PathValue("id"))
	if err != nil || c.role.Kind == Partner && (id.App != c.role.App || !slices.Contains(partnerJobKinds(), id.Kind)) {
		return mailbox.Job{}, notFoundProblem("job")
	}
	c.app = id.App
	j, err := a.Jobs.Job(c.ctx(), id)
	if errors.Is(err, registry.ErrNotFound) {
		return mailbox.Job{}, notFoundProblem("job")
	}
	return j, err
}

func (a *API) getJob(c *call) error {
	j, err := a.readPathJob(c)
	if err != nil {
		return err
	}
	return c.writeJSON(http.StatusOK, newJobAnswer(j))
}

func (a *API) cancelJob(c *call) error {
	j, err := a.readPathJob(c)
	if err != nil {
		return err
	}
	switch err := a.Jobs.Cancel(c.ctx(), j.ID); {
	case errors.Is(err, jobs.ErrKept):
		return newProblem(http.StatusConflict, "job-kept", "The job cannot be cancelled",
			"Only a resync can be cancelled. What a clear or catch_up job left out would be an error, which the service repairs by another job.")
	case errors.Is(err, jobs.ErrOver):
		return newProblem(http.StatusConflict, "job-ended", "The job has ended", "It is done or failed: there is nothing to cancel.")
	case errors.Is(err, registry.ErrNotFound):
		return notFoundProblem("job")
	case err != nil:
		return err
	}
	if err := a.auditAction(c, "job.cancel", string(j.ID.App), `{"job":"`+j.ID.String()+`"}`); err != nil {
		return err
	}
	return c.writeNoContent()
}
