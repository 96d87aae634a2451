package httpapi

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/feed"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/httpapi/openapi"
	"github.com/lamplighter/lamplighter/internal/incidents"
	"github.com/lamplighter/lamplighter/internal/intake"
	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/storewatch"
	"github.com/lamplighter/lamplighter/internal/tenant"
	"github.com/lamplighter/lamplighter/internal/told"
)

// shapeTypes are the types that the document describes under a name of its own.
func shapeTypes() []apitypes.Named {
	name := apitypes.NameType
	return []apitypes.Named{
		name("FieldError", apitypes.Answer, FieldError{}, ""),
		name("Problem", apitypes.Answer, Problem{}, "RFC 9457. Values that a caller sent are never repeated."),
		name("Contact", apitypes.Answer, apitypes.Contact{}, ""),
		name("AddressProblem", apitypes.Answer, apitypes.AddressProblem{}, ""),
		name("Health", apitypes.Answer, apitypes.EndpointHealth{}, ""),
		name("Endpoint", apitypes.Answer, apitypes.Endpoint{}, ""),
		name("EndpointPut", apitypes.Put, apitypes.Endpoint{}, writeDoc+putDoc),
		name("EndpointPatch", apitypes.Patch, apitypes.Endpoint{}, writeDoc+patchDoc),
		name("App", apitypes.Answer, apitypes.App{}, ""),
		name("AppPut", apitypes.Put, apitypes.App{}, writeDoc+putDoc),
		name("AppPatch", apitypes.Patch, apitypes.App{}, writeDoc+patchDoc),
		name("Apps", apitypes.Answer, pageAnswer[apitypes.App]{}, ""),
		name("TestResult", apitypes.Answer, testAnswer{}, ""),
		name("RotationRequest", apitypes.Request, rotationRequest{}, ""),
		name("Rotation", apitypes.Answer, rotationAnswer{}, ""),
		name("Approval", apitypes.Answer, approvalAnswer{}, ""),
		name("Approvals", apitypes.Answer, pageAnswer[approvalAnswer]{}, ""),
		name("LineAnswer", apitypes.Answer, lineAnswer{}, ""),
		name("StateChange", apitypes.Request, changeRequest{}, ""),
		name("Accepted", apitypes.Answer, acceptedAnswer{}, ""),
		name("ChangeStatus", apitypes.Answer, changeStatusAnswer{}, ""),
		name("Tenant", apitypes.Answer, apitypes.Tenant{}, ""),
		name("TenantPut", apitypes.Put, apitypes.Tenant{}, writeDoc),
		name("Mailbox", apitypes.Answer, mailboxAnswer{}, ""),
		name("Delivery", apitypes.Answer, deliveryAnswer{}, ""),
		name("Deliveries", apitypes.Answer, pageAnswer[deliveryAnswer]{}, ""),
		name("Explanation", apitypes.Answer, explanationAnswer{}, ""),
		name("ResyncRequest", apitypes.Request, resyncRequest{}, ""),
		name("Resync", apitypes.Answer, resyncAnswer{}, ""),
		name("Job", apitypes.Answer, jobAnswer{}, ""),
		name("Jobs", apitypes.Answer, pageAnswer[jobAnswer]{}, ""),
		name("Incident", apitypes.Answer, incidentAnswer{}, ""),
		name("Incidents", apitypes.Answer, pageAnswer[incidentAnswer]{}, ""),
		name("AuditEntry", apitypes.Answer, auditAnswer{}, ""),
		name("Audit", apitypes.Answer, pageAnswer[auditAnswer]{}, ""),
		name("TokenRequest", apitypes.Request, tokenRequest{}, ""),
		name("Token", apitypes.Answer, tokenAnswer{}, ""),
		name("Tokens", apitypes.Answer, pageAnswer[tokenAnswer]{}, ""),
		name("Reencryption", apitypes.Answer, reencryptionAnswer{}, ""),
		name("Store", apitypes.Answer, storeAnswer{}, ""),
		name("Config", apitypes.Answer, feed.Document{}, ""),
		name("ErrorReport", apitypes.Request, errorReport{}, ""),
		name("Reported", apitypes.Answer, reportedAnswer{}, ""),
	}
}

const (
	writeDoc = "Members that only answers have are accepted and ignored, so that an answer can be edited and sent back."
	putDoc   = " Members that are left out are reset, unless they say otherwise."
	patchDoc = " Members that are left out are kept; null resets."
)

// wordTypes are the schemas of types whose values are texts of a closed set or of one form.
func wordTypes() map[reflect.Type]string {
	return map[reflect.Type]string{
		reflect.TypeFor[partner.ClientID]():       "ClientID",
		reflect.TypeFor[tenant.ID]():              "TenantID",
		reflect.TypeFor[tenant.ChangeType]():      "ChangeType",
		reflect.TypeFor[tenant.State]():           "State",
		reflect.TypeFor[partner.License]():        "License",
		reflect.TypeFor[partner.TokenAlgorithm](): "TokenAlgorithm",
		reflect.TypeFor[partner.OffReason]():      "OffReason",
		reflect.TypeFor[partner.AddressState]():   "AddressState",
		reflect.TypeFor[mailbox.JobKind]():        "JobKind",
		reflect.TypeFor[mailbox.JobState]():       "JobState",
		reflect.TypeFor[mailbox.JobReason]():      "JobReason",
		reflect.TypeFor[intake.Cause]():           "Cause",
	}
}

// closedSets are the schemas of texts out of a closed set.
func closedSets() map[string]apitypes.Schema {
	return map[string]apitypes.Schema{
		"License":         oneOf(partner.AllLicenses()),
		"TokenAlgorithm":  oneOf(partner.AllTokenAlgorithms()),
		"OffReason":       oneOf(partner.AllOffReasons()),
		"AddressState":    oneOf(partner.AllAddressStates()),
		"EndpointKind":    oneOf(partner.AllEndpointKinds()),
		"ChangeType":      oneOf(tenant.AllChangeTypes()),
		"State":           oneOf(tenant.AllStates()),
		"HealthState":     oneOf(health.AllStatuses()),
		"SwitchedOffBy":   oneOf(health.AllSwitchedOffBy()),
		"TestOutcome":     oneOf([]health.Status{health.StatusHealthy, health.StatusFailing, health.StatusUnchecked}),
		"DeliveryOutcome": oneOf(delivery.AllOutcomes()),
		"DeliveryState":   oneOf(intake.AllDeliveryStates()),
		"JobKind":         oneOf(mailbox.JobKinds()),
		"JobState":        oneOf(mailbox.JobStates()),
		"JobReason":       oneOf(mailbox.JobReasons()),
		"Breaker":         oneOf(mailbox.CircuitStates()),
		"Cause":           oneOf(intake.AllCauses()),
		"TokenState":      oneOf([]string{tokenValid, tokenExpired, tokenRevoked}),
		"IncidentState":   oneOf(incidents.AllStates()),
		"ReportOutcome":   oneOf([]string{"failed", "succeeded"}),
		"ReportReason":    oneOf(reportReasons()),
		"Reason":          withDescription(oneOf(told.AllCauses()), "Why: docs/reasons.md says what each means. Partners get unreachable_name both for a name that does not exist and for one that leads inside."),
		"StoreFound":      oneOf(storewatch.FoundStates()),
		"Traffic":         oneOf([]string{trafficOn, trafficOff}),
		"BudgetName":      oneOf(slices.Sorted(slices.Values(allBudgets()))),
	}
}

// oneOf is the schema of a closed set.
func oneOf[T any](values []T) apitypes.Schema {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprint(v)
	}
	return apitypes.Schema{"type": "string", "enum": words}
}

func withDescription(s apitypes.Schema, text string) apitypes.Schema {
	s["description"] = text
	return s
}

// describeShapes makes what follows from types and closed sets.
func (a *API) describeShapes() openapi.Shapes {
	schemas := apitypes.Describe(shapeTypes(), wordTypes())
	maps.Copy(schemas, closedSets())
	return openapi.Shapes{Schemas: schemas, Examples: map[string]any{"App": a.exampleApp()}}
}

// exampleApp is an app as an answer shows it.
func (a *API) exampleApp() apitypes.App {
	app := partner.New("my-app")
	app.Name, app.TechnicalContact = "My app", partner.Contact{Name: "Kim", Email: "kim@example.com", TimeZone: "Europe/Oslo"}
	app.Endpoints[partner.StateChange].URL, app.Endpoints[partner.StateChange].Enabled = "https://partner.example/hook", true
	return a.newAppAnswer(registry.AppRecord{App: app, Revision: 7})
}
