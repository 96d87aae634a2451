package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/lamplighter/lamplighter/internal/secret"
)

// demoApp is an app that dev makes.
type demoApp struct {
	id, name, algorithm string
	contact, email      string
	tenants             []string
}

// firstTenant is the tenant of the printed commands; it has approved both apps.
const firstTenant = "Cust10001"

func demoTenants() []string { return []string{firstTenant, "Cust10002", "Cust10003"} }

func demoApps() []demoApp {
	return []demoApp{
		{"demo-erp", "Demo ERP", "RS256", "Erin Reed", "erin@erp.example", demoTenants()},
		{"demo-quote", "Demo Quote", "ES256", "Quinn Ott", "quinn@quote.example", demoTenants()[:2]},
	}
}

// apiTimeout bounds one call of the admin API.
const apiTimeout = 10 * time.Second

// adminClient calls the admin API like an operator.
type adminClient struct {
	url    string
	token  secret.Text
	client *http.Client
}

// createDemoData makes the tenants, the apps and their approvals. trust is called with each app's webhook secret,
// which the API returns only once. hook returns an app's URL for notifications.
func (a *adminClient) createDemoData(ctx context.Context, hook func(app string) string, trust func(app, secret string) error) error {
	for _, t := range demoTenants() {
		status := map[string]string{
			"state": "Running", "public_endpoint": "sod3.superoffice.com", "version_name": "Release 10.3.8", "file_version": "10.3.8.2024",
		}
		if err := a.putDocument(ctx, "/v1/tenants/"+t+"/status", status, nil); err != nil {
			return err
		}
	}
	for _, app := range demoApps() {
		var made struct {
			WebhookSecret string `json:"webhook_secret"`
		}
		if err := a.putDocument(ctx, "/v1/apps/"+app.id, app.appDocument(hook(app.id)), &made); err != nil {
			return err
		}
		if err := trust(app.id, made.WebhookSecret); err != nil {
			return fmt.Errorf("webhook secret of %s: %w", app.id, err)
		}
		for _, t := range app.tenants {
			if err := a.putDocument(ctx, "/v1/apps/"+app.id+"/approvals/"+t, nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// appDocument is the app in the format of the admin API.
func (d demoApp) appDocument(url string) map[string]any {
	return map[string]any{
		"name":              d.name,
		"technical_contact": map[string]string{"name": d.contact, "email": d.email},
		"token_algorithm":   d.algorithm,
		"endpoints":         map[string]any{"state_change": map[string]any{"url": url, "enabled": true}},
	}
}

// putDocument sends a document, or nothing, and decodes the answer into a value, if one is given.
func (a *adminClient) putDocument(ctx context.Context, path string, document, into any) error {
	var body []byte
	if document != nil {
		var err error
		if body, err = json.Marshal(document); err != nil {
			return fmt.Errorf("PUT %s: %w", path, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, a.url+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("PUT %s: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token.Reveal())
	if document != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return fmt.Errorf("PUT %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return fmt.Errorf("PUT %s: %w", path, err)
	}
	if resp.StatusCode > 299 {
		return fmt.Errorf("PUT %s: %s: %s", path, resp.Status, secret.MakeExcerpt(answer, 500))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("PUT %s: %w", path, err)
	}
	return nil
}
