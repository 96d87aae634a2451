package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/lamplighter/lamplighter/internal/client"
)

// BuildPlan reads the service's state and returns what must be done. With prune, apps and approvals that are not in
// the manifest are removed.
func (r *Runner) BuildPlan(ctx context.Context, m *Manifest, prune bool) (*Plan, error) {
	r.Counts.StepsTotal.Store(int64(len(m.Apps) + len(m.Tenants)))
	p := &Plan{Tenants: []TenantStep{}, Apps: []AppStep{}}
	var mu sync.Mutex
	err := r.forEachIndex(ctx, len(m.Tenants), func(ctx context.Context, i int) error {
		defer r.Counts.Steps.Add(1)
		now, err := r.readDocument(ctx, client.JoinPath("v1", "tenants", m.Tenants[i].ID))
		if err != nil {
			return fmt.Errorf("read tenant %s: %w", m.Tenants[i].ID, err)
		}
		if step := DiffTenant(m.Tenants[i], now); step != nil {
			mu.Lock()
			defer mu.Unlock()
			p.Tenants = append(p.Tenants, *step)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all, err := r.readApps(ctx, m, prune)
	if err != nil {
		return nil, fmt.Errorf("read the apps: %w", err)
	}
	err = r.forEachIndex(ctx, len(m.Apps), func(ctx context.Context, i int) error {
		defer r.Counts.Steps.Add(1)
		step, err := r.planApp(ctx, m.Apps[i], all[m.Apps[i].ID], prune)
		if step == nil || err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		p.Apps = append(p.Apps, *step)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if prune {
		said := make(map[string]bool, len(m.Apps))
		for _, a := range m.Apps {
			said[a.ID] = true
		}
		for id := range all {
			if !said[id] {
				p.Apps = append(p.Apps, AppStep{ID: id, Action: Remove})
			}
		}
	}
	p.sort()
	return p, nil
}

func (r *Runner) planApp(ctx context.Context, app App, members map[string]any, prune bool) (*AppStep, error) {
	now := CurrentApp{Members: members}
	if app.Approvals != nil && members != nil {
		err := r.API.ForEachItem(ctx, client.JoinPath("v1", "apps", app.ID, "approvals"), nil, 0, func(item json.RawMessage) error {
			var a struct {
				Tenant string `json:"tenant"`
			}
			if err := json.Unmarshal(item, &a); err != nil {
				return client.ErrUnexpectedAnswer
			}
			now.Approvals = append(now.Approvals, a.Tenant)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read the approvals of app %s: %w", app.ID, err)
		}
	}
	return DiffApp(app, now, prune), nil
}

// readApps reads the apps of the manifest, or all.
func (r *Runner) readApps(ctx context.Context, m *Manifest, all bool) (map[string]map[string]any, error) {
	out := map[string]map[string]any{}
	if !all && len(m.Apps) <= fewApps {
		var mu sync.Mutex
		return out, r.forEachIndex(ctx, len(m.Apps), func(ctx context.Context, i int) error {
			now, err := r.readApp(ctx, m.Apps[i].ID)
			if now.Members == nil || err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			out[m.Apps[i].ID] = now.Members
			return nil
		})
	}
	err := r.API.ForEachItem(ctx, client.JoinPath("v1", "apps"), nil, 0, func(item json.RawMessage) error {
		var members map[string]any
		if err := json.Unmarshal(item, &members); err != nil {
			return client.ErrUnexpectedAnswer
		}
		id, _ := members["client_id"].(string)
		out[id] = members
		return nil
	})
	return out, err
}

// readApp reads one app; it has no members when it does not exist.
func (r *Runner) readApp(ctx context.Context, id string) (CurrentApp, error) {
	members, err := r.readDocument(ctx, client.JoinPath("v1", "apps", id))
	return CurrentApp{Members: members}, err
}

// readDocument reads one resource; nil when it does not exist.
func (r *Runner) readDocument(ctx context.Context, path string) (map[string]any, error) {
	answer, err := r.API.Do(ctx, client.Request{Method: http.MethodGet, Path: path})
	if client.RefusalStatus(err) == http.StatusNotFound {
		return nil, nil //nolint:nilnil // absence is a valid result
	}
	if err != nil {
		return nil, err
	}
	var members map[string]any
	if err := json.Unmarshal(answer.Body, &members); err != nil || members == nil {
		return nil, client.ErrUnexpectedAnswer
	}
	return members, nil
}
