package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/lamplighter/lamplighter/internal/feed"
)

// ConfigFeed has the configuration of the integration endpoints, for engines.
type ConfigFeed interface {
	// Revision is the newest.
	Revision(ctx context.Context) (string, error)
	Snapshot(ctx context.Context) (feed.Answer, error)
	// ChangesSince returns feed.ErrMalformed, feed.ErrUnknown and feed.ErrBusy.
	ChangesSince(ctx context.Context, after string, wait time.Duration) (feed.Answer, error)
}

const (
	// maxWait is how long an engine may wait for a change.
	maxWait = time.Minute
	// waitMargin is how long the answer may take after the wait.
	waitMargin = 20 * time.Second
	// retryWait is the Retry-After when too many engines wait.
	retryWait = 5 * time.Second
)

func (a *API) getConfig(c *call) error {
	after, wait, err := c.readFeedQuery()
	if err != nil {
		return err
	}
	// The server's deadlines are shorter than a long wait. A read deadline that is not cleared would end the
	// request as if the engine had disconnected.
	control := http.NewResponseController(c.w)
	if err := ignoreUnsupported(control.SetReadDeadline(time.Time{})); err != nil {
		return err
	}
	if err := ignoreUnsupported(control.SetWriteDeadline(time.Now().Add(wait + waitMargin))); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx(), wait+waitMargin)
	defer cancel()
	var answer feed.Answer
	if after == "" {
		answer, err = a.snapshotUnlessKnown(ctx, c)
	} else {
		answer, err = a.ConfigFeed.ChangesSince(ctx, after, wait)
		if err == nil && wait > 0 { // the token may have been revoked meanwhile
			err = a.auth.recheckToken(ctx, c.token, a.Now())
		}
	}
	if err != nil {
		return translateFeedError(err)
	}
	tag := strconv.Quote(answer.Revision)
	c.w.Header().Set("ETag", tag)
	c.w.Header().Set("Cache-Control", "no-cache")
	if matchesETag(c.r.Header.Values("If-None-Match"), tag, weak) {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	sendBody(c.w, http.StatusOK, typeJSON, answer.Body)
	return nil
}

// snapshotUnlessKnown returns a snapshot, or only its revision when the engine has that snapshot already.
func (a *API) snapshotUnlessKnown(ctx context.Context, c *call) (feed.Answer, error) {
	conds := c.r.Header.Values("If-None-Match")
	if len(conds) == 0 {
		return a.ConfigFeed.Snapshot(ctx)
	}
	revision, err := a.ConfigFeed.Revision(ctx)
	if err != nil || matchesETag(conds, strconv.Quote(revision), weak) {
		return feed.Answer{Revision: revision}, err
	}
	return a.ConfigFeed.Snapshot(ctx)
}

// readFeedQuery reads ?after= and ?wait=.
func (c *call) readFeedQuery() (after string, wait time.Duration, err error) {
	f := &faults{}
	query := c.r.URL.Query()
	for name, values := range query {
		switch {
		case !slices.Contains([]string{"after", "wait"}, name):
			f.add(memberPointer("", name), "is not a known parameter")
		case len(values) > 1:
			f.add(memberPointer("", name), "stands twice")
		}
	}
	after = query.Get("after")
	if query.Has("after") && after == "" {
		f.add("/after", "must be a revision, or absent")
	}
	if query.Has("wait") {
		wait, err = time.ParseDuration(query.Get("wait"))
		switch {
		case err != nil || wait < 0 || wait > maxWait:
			f.add("/wait", "must be a time such as 30s, at most "+maxWait.String())
		case after == "":
			f.add("/wait", "needs after, the revision that is known: without it the answer is there at once")
		}
	}
	return after, wait, f.err()
}

func translateFeedError(err error) error {
	switch {
	case errors.Is(err, feed.ErrMalformed):
		return invalidProblem(FieldError{Pointer: "/after", Detail: feed.ErrMalformed.Error()})
	case errors.Is(err, feed.ErrUnknown):
		return newProblem(http.StatusGone, "start-over", "The revision is not known",
			"This deployment never gave it out, or its store lost it: discard what you have and ask again without after.")
	case errors.Is(err, feed.ErrBusy):
		return tooManyRequestsProblem(budgetWaiters, "Too many wait for changes at this process.", retryWait)
	default:
		return err
	}
}
