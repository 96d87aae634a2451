package queue

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// Kind is a queue and the one type of task it holds.
type Kind string

// The closed set of kinds.
const (
	// Fanout deposits tenants' records in the mailboxes of the apps that approved them.
	Fanout Kind = "fanout"
	// Drain empties an app's mailbox.
	Drain Kind = "drain"
	// Mail brings one mail of an app's outbox to its recipient's tray.
	Mail Kind = "mail"
	// Post sends what waits in one recipient's tray.
	Post Kind = "post"
	// Resync has an app told of all its tenants. Older versions alone enqueue it, when an app gets its first URL.
	Resync Kind = "resync"
	// Probe looks at one integration endpoint.
	Probe Kind = "probe"
)

// Kinds lists the closed set.
func Kinds() []Kind { return []Kind{Fanout, Drain, Mail, Post, Resync, Probe} }

// Namespace is what the names of one deployment's queues begin with. Deployments that share a Redis
// differ in redis.prefix or environment, and so do their queues.
func Namespace(prefix, environment string) string { return prefix + "-" + environment }

// Name is the queue's name in asynq.
func Name(namespace string, k Kind) string {
	switch k {
	case Resync: // resyncs are fan-outs by another cause and share their workers
		k = Fanout
	case Post:
		k = Mail
	default:
	}
	return namespace + "-" + string(k)
}

// errPayload reports a task that this version cannot read; it is dropped, the sweep repairs.
var errPayload = errors.New("unreadable task payload")

// payload is what a task carries.
type payload interface {
	// complete reports that nothing needed is missing: JSON of another shape decodes to nothing.
	complete() bool
}

type fanoutPayload struct {
	Tenants []tenant.ID `json:"tenants"`
}

type drainPayload struct {
	App        partner.ClientID `json:"app"`
	Generation int64            `json:"gen"`
}

type mailPayload struct {
	App  partner.ClientID `json:"app"`
	Mail string           `json:"mail"`
}

type postPayload struct {
	// Recipient is a hash of the address: tasks hold no addresses.
	Recipient string `json:"recipient"`
}

type resyncPayload struct {
	App partner.ClientID `json:"app"`
}

type probePayload struct {
	App      partner.ClientID     `json:"app"`
	Endpoint partner.EndpointKind `json:"endpoint"`
}

func (p fanoutPayload) complete() bool { return len(p.Tenants) > 0 }
func (p drainPayload) complete() bool  { return p.App != "" }
func (p mailPayload) complete() bool   { return p.App != "" && p.Mail != "" }
func (p postPayload) complete() bool   { return p.Recipient != "" }
func (p resyncPayload) complete() bool { return p.App != "" }
func (p probePayload) complete() bool  { return p.App != "" && p.Endpoint != partner.StateChange }

func decode[T payload](b []byte) (T, error) {
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%w: %w", errPayload, err)
	}
	if !v.complete() {
		return v, fmt.Errorf("%w: something is missing", errPayload)
	}
	return v, nil
}
