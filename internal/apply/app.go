package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/lamplighter/lamplighter/internal/client"
)

// batchLines is how many approvals one body has, far below the service's limit.
const batchLines = 50_000

// applyApp carries out one app's step.
func (r *Runner) applyApp(ctx context.Context, s *AppStep) error {
	if err := r.writeApp(ctx, s); err != nil {
		return r.recordFault(ctx, "app "+s.ID, err)
	}
	if err := r.addApprovals(ctx, s); err != nil {
		return r.recordFault(ctx, "approvals of app "+s.ID, err)
	}
	if err := r.removeApprovals(ctx, s); err != nil {
		return r.recordFault(ctx, "approvals of app "+s.ID, err)
	}
	return nil
}

// writeApp creates or changes the app itself. After a concurrent write it reads the app again.
func (r *Runner) writeApp(ctx context.Context, s *AppStep) error {
	step := s
	if s.Action == Create {
		made, err := r.createApp(ctx, s)
		if err != nil || made {
			return err
		}
		step = nil // it exists, but its content is unknown
	}
	for range maxOvertaken {
		if step == nil {
			now, err := r.readApp(ctx, s.ID)
			if err != nil {
				return err
			}
			if now.Members == nil {
				return errors.New("it is being removed by another client")
			}
			step = DiffApp(App{ID: s.ID, Said: s.app.Said}, now, false)
		}
		if step == nil || !step.writesApp() {
			return nil
		}
		err := r.patchApp(ctx, step)
		if client.RefusalStatus(err) != http.StatusPreconditionFailed {
			return err
		}
		step = nil
	}
	return errors.New("other clients keep changing it")
}

func (r *Runner) patchApp(ctx context.Context, s *AppStep) error {
	body, err := json.Marshal(buildMergePatch(s.Edits))
	if err != nil {
		return err
	}
	_, err = r.API.Do(ctx, client.Request{
		Method: http.MethodPatch, Path: client.JoinPath("v1", "apps", s.ID), Query: r.forceQuery(), Body: body, IfMatch: strconv.Quote(s.revision),
	})
	if err == nil {
		r.updateSummary(func(d *Summary) { d.Changed++ })
	}
	return err
}

// createApp creates the app and keeps its secret. It returns false when the app exists by now: another client created
// it, or an earlier attempt of this run did, whose answer was lost.
func (r *Runner) createApp(ctx context.Context, s *AppStep) (bool, error) {
	body, err := json.Marshal(s.app.Said)
	if err != nil {
		return false, err
	}
	owed, err := r.Secrets.RecordIntent(s.ID)
	if err != nil {
		return false, err
	}
	answer, err := r.API.Do(ctx, client.Request{
		Method: http.MethodPut, Path: client.JoinPath("v1", "apps", s.ID), Query: r.forceQuery(), Body: body, IfNoneMatch: "*",
	})
	if refusal, ok := errors.AsType[*client.Refusal](err); ok && refusal.Status == http.StatusPreconditionFailed {
		if owed || refusal.Attempt > 1 {
			return false, r.replaceSecret(ctx, s.ID)
		}
		return false, r.Secrets.DropIntent(s.ID)
	}
	if err != nil {
		return false, err
	}
	if err := r.saveSecret(s.ID, answer); err != nil {
		return false, err
	}
	r.updateSummary(func(d *Summary) { d.Created++ })
	return true, nil
}

// replaceSecret replaces a secret that was made but whose answer was lost. The old secret stays valid for the
// service's grace period, in case another client has it.
func (r *Runner) replaceSecret(ctx context.Context, id string) error {
	answer, err := r.API.Do(ctx, client.Request{Method: http.MethodPost, Path: client.JoinPath("v1", "apps", id, "secrets")})
	if err != nil {
		return err
	}
	return r.saveSecret(id, answer)
}

// replaceLostSecrets replaces secrets that an earlier run made and whose answers were lost.
func (r *Runner) replaceLostSecrets(ctx context.Context) error {
	if r.Secrets == nil {
		return nil
	}
	for _, id := range r.Secrets.OpenIntents() {
		now, err := r.readApp(ctx, id)
		if err == nil && now.Members != nil {
			err = r.replaceSecret(ctx, id)
		}
		if err != nil {
			if err := r.recordFault(ctx, "the webhook secret of app "+id, err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Runner) saveSecret(id string, answer client.Answer) error {
	var made struct {
		Secret string `json:"webhook_secret"`
	}
	if err := json.Unmarshal(answer.Body, &made); err != nil || made.Secret == "" {
		return client.ErrUnexpectedAnswer
	}
	return r.Secrets.SaveSecret(id, made.Secret)
}

// addApprovals sends approvals in bodies of lines. Lines without an answer are sent again.
func (r *Runner) addApprovals(ctx context.Context, s *AppStep) error {
	for batch := range slices.Chunk(s.Add, batchLines) {
		for tries := 0; len(batch) > 0; tries++ {
			answered, err := r.sendApprovals(ctx, s.ID, batch)
			if err != nil && (tries >= maxOvertaken || ctx.Err() != nil || !canResendLines(err) && answered == 0) {
				return err
			}
			if answered > 0 {
				tries = 0
			}
			batch = batch[answered:]
		}
	}
	return nil
}

// canResendLines reports whether the rest of the lines may succeed in another body.
func canResendLines(err error) bool {
	_, ok := errors.AsType[*client.NoAnswer](err)
	return ok || errors.Is(err, errAgain)
}

var errAgain = errors.New("the service could not take the approvals")

// sendApprovals sends tenants and counts the approved ones, up to the first that fails.
func (r *Runner) sendApprovals(ctx context.Context, id string, tenants []string) (int, error) {
	send := func(yield func([]byte) bool) {
		for _, t := range tenants { // ids need no escaping
			if !yield([]byte(`{"tenant":"` + t + `"}`)) {
				return
			}
		}
	}
	n := 0
	err := r.API.SendLines(ctx, client.Request{Method: http.MethodPut, Path: client.JoinPath("v1", "apps", id, "approvals")}, send, func(a client.LineAnswer) error {
		switch {
		case a.Line != n+1:
			return client.ErrUnexpectedAnswer
		case a.Status == http.StatusNoContent:
			n++
			r.Counts.Approvals.Add(1)
			return nil
		case a.Status == http.StatusServiceUnavailable:
			return fmt.Errorf("%w: %s", errAgain, a.Detail)
		}
		return fmt.Errorf("%s: %d: %s", tenants[n], a.Status, client.DropUnprintable(a.Detail))
	})
	r.updateSummary(func(d *Summary) { d.Added += n })
	if err == nil && n < len(tenants) {
		err = &client.NoAnswer{Err: errors.New("the answers ended early")}
	}
	return n, err
}

func (r *Runner) removeApprovals(ctx context.Context, s *AppStep) error {
	for _, t := range s.Drop {
		if _, err := r.API.Do(ctx, client.Request{Method: http.MethodDelete, Path: client.JoinPath("v1", "apps", s.ID, "approvals", t)}); err != nil {
			return err
		}
		r.Counts.Approvals.Add(1)
		r.updateSummary(func(d *Summary) { d.Dropped++ })
	}
	return nil
}
