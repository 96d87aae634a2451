package probe

import (
	"strconv"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// newFinding describes in a sentence or two what was found. note adds to the reason; it contains nothing of the
// answer and no address.
func newFinding(t *Target, r health.Reason, status int, note string) health.Finding {
	words := "The endpoint was called with " + describeCall(t) + ": " + r.Description()
	switch r {
	case health.NoTenant:
		words = "Nothing was tried: " + r.Description()
	case health.Healthy:
		words = "The endpoint was called with " + describeCall(t) + ": " + health.Healthy.Description()
	}
	if note != "" {
		words += " (" + note + ")"
	}
	words += "."
	if status != 0 && r.IsFailing() {
		words += " Its HTTP status was " + strconv.Itoa(status) + "."
	}
	return health.Finding{Reason: r, Status: status, Detail: words}
}

func describeCall(t *Target) string {
	switch t.Kind {
	case partner.Mirroring:
		return "Authenticate for tenant " + string(t.Tenant)
	case partner.QuoteConnector:
		return "TestConnection"
	default:
		return "an empty SOAP message"
	}
}

// persistentFaultFinding attributes an own fault to the endpoint, after it has lasted for minutes while others were
// reached.
func persistentFaultFinding(t *Target, f health.Finding) health.Finding {
	out := newFinding(t, f.Blame, 0, "from here it has not been reached for minutes, while others are")
	out.Duration = f.Duration
	return out
}
