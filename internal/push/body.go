package push

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// notification is the body, names and order as the platform's page on tenant status webhooks
// shows them. Receivers bind it by name; nothing may be added.
type notification struct {
	ChangeType        int    `json:"ChangeType"`
	ContextIdentifier string `json:"ContextIdentifier"`
	VersionName       string `json:"VersionName"`
	FileVersion       string `json:"FileVersion"`
	Token             string `json:"Token"`
	// PublicEndpoint is absent, not empty, unless the tenant moved.
	PublicEndpoint string `json:"PublicEndpoint,omitempty"`
}

func body(m delivery.Message, token string) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(256 + len(token))
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	n := notification{
		ChangeType: int(m.Change.Type), ContextIdentifier: string(m.Change.Tenant), VersionName: m.Change.VersionName,
		FileVersion: m.Change.FileVersion, Token: token,
	}
	if m.Change.Type == tenant.Move {
		n.PublicEndpoint = m.Change.PublicEndpoint
	}
	if err := enc.Encode(n); err != nil {
		return nil, fmt.Errorf("encode notification: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
