package apps

import (
	"encoding/json"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// The audit's actions for a switch that a write moved.
const (
	ActionSwitchedOn  = "endpoint.switched_on"
	ActionSwitchedOff = "endpoint.switched_off"
	// ActionMoved: it stays on, at another URL that was probed.
	ActionMoved = "endpoint.moved"
)

// SwitchNote is a switch in the audit.
type SwitchNote struct {
	Endpoint  string            `json:"endpoint"`
	Enabled   bool              `json:"enabled"`
	OffReason partner.OffReason `json:"off_reason,omitempty"`
	// Forced is true when it was switched on although the probe failed.
	Forced bool       `json:"forced,omitempty"`
	Probe  *ProbeNote `json:"probe,omitempty"`
}

// Encode returns the note as the audit keeps it.
func (n SwitchNote) Encode() string {
	b, err := json.Marshal(n)
	if err != nil { // strings, numbers and booleans always marshal
		panic("apps: marshal a switch: " + err.Error())
	}
	return string(b)
}

// ProbeNote is a probe's result in the audit. Only operators and admins may see its text.
type ProbeNote struct {
	State      health.Status `json:"outcome"`
	Reason     string        `json:"reason"`
	Status     int           `json:"status,omitempty"`
	Detail     string        `json:"detail,omitempty"`
	DurationMS int64         `json:"duration_ms"`
}

// buildSwitchNotes makes the audit's notes about the switches that a write moved.
func buildSwitchNotes(old, app *partner.App, probed func(*partner.App, partner.EndpointKind) (note *ProbeNote, forced bool)) []registry.AuditNote {
	var notes []registry.AuditNote
	for _, k := range partner.AllEndpointKinds() {
		var was partner.Endpoint
		if old != nil {
			was = old.Endpoints[k]
		}
		is := app.Endpoints[k]
		probe, forced := probed(app, k)
		if was.Enabled == is.Enabled && (probe == nil || !is.Enabled) {
			continue
		}
		before := SwitchNote{Endpoint: k.String(), Enabled: was.Enabled, OffReason: was.OffReason}
		after := SwitchNote{Endpoint: k.String(), Enabled: is.Enabled, OffReason: is.OffReason}
		note := registry.AuditNote{Action: ActionSwitchedOff}
		switch {
		case was.Enabled && is.Enabled:
			note.Action = ActionMoved
		case is.Enabled:
			note.Action = ActionSwitchedOn
		}
		if is.Enabled {
			after.Probe, after.Forced = probe, forced
		}
		note.Before, note.After = before.Encode(), after.Encode()
		notes = append(notes, note)
	}
	return notes
}

// noProbe is for writes that probe nothing.
func noProbe(*partner.App, partner.EndpointKind) (*ProbeNote, bool) { return nil, false }

// probeNote is the note about the probe of an endpoint, nil when it was not probed.
func (c *writeCheck) probeNote(app *partner.App, k partner.EndpointKind) (*ProbeNote, bool) {
	found, ok := c.probed[c.probeKey(app, k)]
	if !ok || k == partner.StateChange {
		return nil, false
	}
	return &ProbeNote{
		State: found.State, Reason: found.Cause.String(), Status: found.Status, Detail: found.Detail, DurationMS: found.Duration.Milliseconds(),
	}, c.write.Force && found.State != health.StatusHealthy
}
