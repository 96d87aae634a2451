package registry

import (
	"errors"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Errors that callers distinguish.
var (
	// ErrNotFound: no such app, tenant, change, token or incident.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the stored revision is not the one that the writer expected.
	ErrConflict = errors.New("changed by another write in the meantime")
	// ErrTooMany: there is no room for another token, or an answer is too large.
	ErrTooMany = errors.New("there are too many of them")
	// ErrKeyReused: the idempotency key was used with another body.
	ErrKeyReused = errors.New("idempotency key was used with another body")
	// ErrOutOfOrder: the sequence of the source is not higher than that of an accepted change of the tenant.
	ErrOutOfOrder = errors.New("the source's newer change of the tenant was accepted before")
	// ErrUndecided: an earlier change of the tenant in the same call may still be written.
	ErrUndecided = errors.New("an earlier change of the tenant is not decided")
	// ErrUnreadable: a stored value is of a format that this version cannot read.
	ErrUnreadable = errors.New("stored value is of an unknown format")
)

// Actor is the author of a write, for the audit.
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
	// Birth is the revision of the write that made the app. A client id that is deleted and made again has a higher one; 0 if a
	// version that knows no births made it.
	Birth int64
	// EndpointRevision is the revision at which the URLs or the switch of the state-change endpoint, or the app's pause, last
	// changed.
	EndpointRevision int64
}

// AnyRevision makes a write replace whatever is stored.
const AnyRevision int64 = -1

// NoRevision makes a write succeed only if the app does not exist yet.
const NoRevision int64 = 0

// ChangeRequest is a change that the platform reports.
type ChangeRequest struct {
	Tenant tenant.ID
	Type   tenant.ChangeType
	// VersionName and FileVersion default to the tenant's last known ones if nil.
	VersionName, FileVersion *string
	// PublicEndpoint is set only for a move.
	PublicEndpoint string
	OccurredAt     time.Time
	// SourceSequence is the number of the change in the source's count for the tenant, from 1 to MaxSourceSequence. 0 if the
	// source does not count: then the change is compared with none, and the stored count stays.
	SourceSequence int64
	// IdempotencyKey with its line makes a repeat return the first answer; empty for none.
	IdempotencyKey string
	Line           int
}

// MaxSourceSequence is the highest integer that Lua and JSON represent exactly.
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

// TenantView is the record of a tenant.
type TenantView struct {
	Status tenant.Status
	// Known is false for a tenant that was never reported.
	Known bool
	// Record is the snapshot that a fan-out deposits.
	Record tenant.Record
	// SourceSequence is the highest of all accepted changes; 0 if none had one.
	SourceSequence int64
	// FanoutPending is true until the mailbox of every app that approved holds the newest record.
	FanoutPending bool
}

// PendingFanout is a tenant whose fan-out may be pending.
type PendingFanout struct {
	Tenant tenant.ID
	// Ticket identifies the accept that listed the tenant; clearing compares it.
	Ticket int64
}

// Token is an admin API token; of its secret part only a hash is stored.
type Token struct {
	ID   string
	Name string
	Role string
	// Prefix is the beginning of the secret, by which an operator recognises it; empty if it must not be shown.
	Prefix    string
	CreatedAt time.Time
	ExpiresAt time.Time
	RevokedAt time.Time
	// LastUsedAt is coarse, and only set by Tokens and Token.
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
	// Subject is the object of the action, such as "app1".
	Subject string `json:"subject"`
	// Before and After are JSON documents without secrets, empty where there is none.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// AuditNote is what a write audits in addition, such as the switch that it changed.
type AuditNote struct {
	Action string
	// Before and After are JSON documents without secrets, empty where there is none.
	Before, After string
}
