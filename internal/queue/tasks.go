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
	// Fanout deposits tenants' changes in the mailboxes of the apps that they approved.
	Fanout Kind = "fanout"
	// Drain empties an app's mailbox.
	Drain Kind = "drain"
	// ForwardMail moves one mail from an app's outbox to its recipient's mail queue.
	ForwardMail Kind = "mail"
	// SendMail sends the mails of one mail queue.
	SendMail Kind = "post"
	// Resync deposits the status of all tenants of an app. Only older versions enqueue it, when an app
	// gets its first URL.
	Resync Kind = "resync"
	// Probe probes one integration endpoint.
	Probe Kind = "probe"
)

// AllKinds lists the closed set.
func AllKinds() []Kind { return []Kind{Fanout, Drain, ForwardMail, SendMail, Resync, Probe} }

// FormatNamespace is the prefix of the names of one deployment's queues. Deployments that share a Redis
// differ in redis.prefix or environment, and so in this prefix.
func FormatNamespace(prefix, environment string) string { return prefix + "-" + environment }

// AsynqName is the queue's name in asynq.
func AsynqName(namespace string, k Kind) string {
	switch k {
	case Resync: // resyncs share the fan-out's workers
		k = Fanout
	case SendMail:
		k = ForwardMail
	default:
	}
	return namespace + "-" + string(k)
}

// errPayload reports a task that this version cannot read. The task is dropped; the sweep repairs that.
var errPayload = errors.New("unreadable task payload")

// payload is what a task carries.
type payload interface {
	// isComplete reports whether all required members are set: JSON of another shape decodes to empty ones.
	isComplete() bool
}

type fanoutPayload struct {
	Tenants []tenant.ID `json:"tenants"`
}

type drainPayload struct {
	App        partner.ClientID `json:"app"`
	Generation int64            `json:"gen"`
}

type forwardMailPayload struct {
	App  partner.ClientID `json:"app"`
	Mail string           `json:"mail"`
}

type sendMailPayload struct {
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

func (p fanoutPayload) isComplete() bool      { return len(p.Tenants) > 0 }
func (p drainPayload) isComplete() bool       { return p.App != "" }
func (p forwardMailPayload) isComplete() bool { return p.App != "" && p.Mail != "" }
func (p sendMailPayload) isComplete() bool    { return p.Recipient != "" }
func (p resyncPayload) isComplete() bool      { return p.App != "" }
func (p probePayload) isComplete() bool       { return p.App != "" && p.Endpoint != partner.StateChange }

func decodePayload[T payload](b []byte) (T, error) {
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%w: %w", errPayload, err)
	}
	if !v.isComplete() {
		return v, fmt.Errorf("%w: something is missing", errPayload)
	}
	return v, nil
}
