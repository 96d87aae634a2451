package registry

import (
	"errors"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Errors that callers tell apart.
var (
	// ErrNotFound: no such app, tenant, change, token or incident.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the revision the writer expected is not the current one.
	ErrConflict = errors.New("changed by somebody else in the meantime")
	// ErrTooMany: there is no room for another token.
	ErrTooMany = errors.New("there are too many of them")
	// ErrKeyReused: the idempotency key was used with another body.
	ErrKeyReused = errors.New("idempotency key was used with another body")
	// ErrOutOfOrder: the source counts the change no higher than one of the tenant that was accepted.
	ErrOutOfOrder = errors.New("the source's newer change of the tenant was accepted before")
	// ErrUndecided: an earlier change of the tenant in the same call may still be written.
	ErrUndecided = errors.New("an earlier change of the tenant is not decided")
	// ErrUnreadable: a stored value is of a format that this version cannot read.
	ErrUnreadable = errors.New("stored value is of an unknown format")
)

// Actor is who writes, for the audit.
type Actor struct {
	// Name is the token's name, or the part of the service that acts.
	Name string
	// Role is the token's role; "service" when the service itself acts.
	Role string
	// RequestID links the audit to the request log.
	RequestID string
}

// AppRecord is an app as stored.
type AppRecord struct {
	App partner.App
	// Revision grows with every write to any app: it is the app's ETag and orders its switches.
	Revision int64
	// Birth is the revision of the write that made the app. A client id that is deleted and made again
	// has a greater one; 0 where a version before births made it.
	Birth int64
	// EndpointRevision is that at which the URLs or the switch of the state-change endpoint, or the
	// app's pause, last changed.
	EndpointRevision int64
}

// AnyRevision tells a write to replace whatever stands there.
const AnyRevision int64 = -1

// NoRevision tells a write that the app must not exist yet.
const NoRevision int64 = 0

// ChangeRequest is a change that the platform asks to accept.
type ChangeRequest struct {
	Tenant tenant.ID
	Type   tenant.ChangeType
	// VersionName and FileVersion default to the tenant's last known when nil.
	VersionName, FileVersion *string
	// PublicEndpoint is set for a move alone.
	PublicEndpoint string
	OccurredAt     time.Time
	// SourceSequence is how the source counts its changes of the tenant, from 1 to MaxSourceSequence; 0
	// when it does not: then the change is compared with none and leaves what was counted alone.
	SourceSequence int64
	// IdempotencyKey with its line makes a repeat return the first answer; empty for none.
	IdempotencyKey string
	Line           int
}

// MaxSourceSequence is the highest count that Lua and JSON tell from its neighbours.
const MaxSourceSequence = 1<<53 - 1

// Accepted is the answer to an accepted change.
type Accepted struct {
	ID       string
	Tenant   tenant.ID
	Sequence int64
	// Apps counts the apps that had approved the tenant.
	Apps int
	// Replayed is true when an earlier call with the same idempotency key accepted it.
	Replayed bool
}

// TenantView is all that the registry knows of a tenant.
type TenantView struct {
	Status tenant.Status
	// Known is false for a tenant nobody ever reported.
	Known bool
	// Record is the snapshot a fan-out deposits.
	Record tenant.Record
	// SourceSequence is the highest that came with an accepted change; 0 when none did.
	SourceSequence int64
	// FanoutPending is true until every approved app's mailbox holds the newest record.
	FanoutPending bool
}

// PendingFanout is a tenant whose fan-out may be owed.
type PendingFanout struct {
	Tenant tenant.ID
	// Ticket identifies the accept that put it there; clearing compares it.
	Ticket int64
}

// Token is an admin API token; its secret part is stored as a hash alone.
type Token struct {
	ID   string
	Name string
	Role string
	// Prefix is how the secret begins, by which people know it again; empty where nobody may.
	Prefix    string
	CreatedAt time.Time
	ExpiresAt time.Time
	RevokedAt time.Time
	// LastUsedAt is coarse, and only known to those who list tokens.
	LastUsedAt time.Time
}

// AuditEntry is one write.
type AuditEntry struct {
	ID        string    `json:"id"`
	At        time.Time `json:"at"`
	Actor     string    `json:"actor"`
	Role      string    `json:"role"`
	RequestID string    `json:"request_id,omitempty"`
	// Action is what was done, such as "app.put".
	Action string `json:"action"`
	// Subject is to what, such as "app1".
	Subject string `json:"subject"`
	// Before and After are JSON documents without secrets, empty where there is none.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// AuditNote is what a write audits beside itself, such as the switch that it moved.
type AuditNote struct {
	Action string
	// Before and After are JSON documents without secrets, empty where there is none.
	Before, After string
}
