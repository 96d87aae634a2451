package probe

import (
	"strconv"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
)

// finding says what was found in a sentence or two. note says more about the reason; it holds
// nothing of the answer and no address.
func finding(t *Target, r health.Reason, status int, note string) health.Finding {
	words := "The endpoint was called with " + called(t) + ": " + r.Description()
	switch r {
	case health.NoTenant:
		words = "Nothing was tried: " + r.Description()
	case health.Healthy:
		words = "The endpoint was called with " + called(t) + ": " + health.Healthy.Description()
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

func called(t *Target) string {
	switch t.Kind {
	case partner.Mirroring:
		return "Authenticate for tenant " + string(t.Tenant)
	case partner.QuoteConnector:
		return "TestConnection"
	default:
		return "an empty SOAP message"
	}
}

// blamed is an own fault that lasted so long, while others were reached, that it is the endpoint's.
func blamed(t *Target, f health.Finding) health.Finding {
	out := finding(t, f.Blame, 0, "from here it has not been reached for minutes, while others are")
	out.Duration = f.Duration
	return out
}
