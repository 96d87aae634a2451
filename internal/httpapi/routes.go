package httpapi

import (
	"net/http"
	"strings"
)

// route is one operation.
type route struct {
	operation string
	method    string
	pattern   string
	// may are the roles that may call it; empty for every caller, without a token.
	may     roleSet
	body    bodyKind
	success []int
	handle  handler
}

func (r route) isPublic() bool { return r.may == 0 }

// isPerApp reports whether a partner may call it only for its own app.
func (r route) isPerApp() bool { return strings.Contains(r.pattern, "{client_id}") }

// writesSettings reports whether it counts to a partner's budget for writes of settings. Tests of an endpoint and resyncs
// have budgets of their own.
func (r route) writesSettings() bool {
	return r.method != http.MethodGet && r.operation != "testEndpoint" && r.operation != "resync"
}

// Operation describes one operation, for tests and documents.
type Operation struct {
	ID, Method, Pattern string
	// Roles may call it; empty when it is public.
	Roles []RoleKind
	// Success lists the statuses of its success.
	Success []int
}

// Operations lists what the API serves.
func (a *API) Operations() []Operation {
	out := make([]Operation, len(a.routes))
	for i, r := range a.routes {
		out[i] = Operation{ID: r.operation, Method: r.method, Pattern: r.pattern, Success: r.success}
		for _, k := range AllRoles() {
			if r.may.has(k) {
				out[i].Roles = append(out[i].Roles, k)
			}
		}
	}
	return out
}

func (a *API) allRoutes() []route {
	var all []route
	add := func(present bool, rs ...route) {
		if present {
			all = append(all, rs...)
		}
	}
	add(a.Apps != nil, a.appReadRoutes()...)
	add(a.Apps != nil && a.AppWriter != nil, a.appWriteRoutes()...)
	add(a.Tester != nil, route{"testEndpoint", "POST", "/v1/apps/{client_id}/endpoints/{endpoint}/test", allowRoles(Partner, Operator), optionalJSON, []int{200}, a.testEndpoint})
	add(
		a.ApprovalList != nil,
		route{"listApprovals", "GET", "/v1/apps/{client_id}/approvals", allowRoles(Platform, Operator), noBody, []int{200, 304}, a.listApprovals},
		route{"getApproval", "GET", "/v1/apps/{client_id}/approvals/{tenant}", allowRoles(Platform, Operator), noBody, []int{200, 304}, a.getApproval},
	)
	add(
		a.Approvals != nil && a.ApprovalList != nil,
		route{"putApprovals", "PUT", "/v1/apps/{client_id}/approvals", allowRoles(Platform, Operator), linesBody, []int{200}, a.putApprovals},
		route{"putApproval", "PUT", "/v1/apps/{client_id}/approvals/{tenant}", allowRoles(Platform, Operator), noBody, []int{204}, a.putApproval},
		route{"deleteApproval", "DELETE", "/v1/apps/{client_id}/approvals/{tenant}", allowRoles(Platform, Operator), noBody, []int{204}, a.deleteApproval},
	)
	add(a.Resyncer != nil, route{"resync", "POST", "/v1/apps/{client_id}/resync", allowRoles(Partner, Operator), optionalJSON, []int{202}, a.resyncApp})
	add(a.Jobs != nil, a.jobRoutes()...)
	add(a.Mailboxes != nil, route{"getMailbox", "GET", "/v1/apps/{client_id}/mailbox", allowRoles(Partner, Operator), noBody, []int{200}, a.getMailbox})
	add(a.Deliveries != nil, route{"listDeliveries", "GET", "/v1/apps/{client_id}/deliveries", allowRoles(Partner, Operator), noBody, []int{200}, a.listDeliveries})
	add(a.Explainer != nil, route{"why", "GET", "/v1/apps/{client_id}/tenants/{tenant}/why", allowRoles(Partner, Operator), noBody, []int{200}, a.getExplanation})
	add(
		a.Tenants != nil,
		route{"getTenant", "GET", "/v1/tenants/{tenant}", allowRoles(Platform, Operator), noBody, []int{200}, a.getTenant},
		route{"putTenantStatus", "PUT", "/v1/tenants/{tenant}/status", allowRoles(Platform, Operator), jsonBody, []int{200}, a.putTenantStatus},
	)
	add(
		a.Changes != nil && a.Keys != nil,
		route{"postStateChanges", "POST", "/v1/state-changes", allowRoles(Platform, Operator), jsonOrLines, []int{200, 202}, a.postStateChanges},
		route{"getStateChange", "GET", "/v1/state-changes/{id}", allowRoles(Platform, Operator), noBody, []int{200}, a.getStateChange},
	)
	add(
		a.Incidents != nil,
		route{"listIncidents", "GET", "/v1/incidents", allowRoles(Partner, Operator), noBody, []int{200, 304}, a.listIncidents},
		route{"closeIncident", "POST", "/v1/incidents/{id}/close", allowRoles(Operator), optionalJSON, []int{200}, a.closeIncident},
	)
	add(a.TokenKeeper != nil, a.tokenRoutes()...)
	add(a.Resealer != nil, route{"reencryptSecrets", "POST", "/v1/secrets/reencrypt", allowRoles(), optionalJSON, []int{200}, a.reencryptSecrets})
	add(a.Store != nil, route{acceptStoreOperation, "POST", "/v1/store/accept", allowRoles(), optionalJSON, []int{200}, a.acceptStore})
	add(
		a.Audit != nil,
		route{"listAudit", "GET", "/v1/audit", allowRoles(Partner, Operator), noBody, []int{200}, a.listAudit},
		route{"exportAudit", "GET", "/v1/audit/export", allowRoles(Partner, Operator), noBodyLong, []int{200}, a.exportAudit},
	)
	add(a.ErrorReports != nil, route{"postErrorReports", "POST", "/v1/apps/{client_id}/endpoints/{endpoint}/error-reports", allowRoles(Platform, Operator), jsonOrLines, []int{200, 202}, a.postErrorReports})
	add(a.ConfigFeed != nil, route{"getConfig", "GET", "/v1/config", allowRoles(Platform, Operator), noBodyLong, []int{200, 304}, a.getConfig})
	add(a.Statuses != nil, route{"getState", "GET", "/api/state/{tenant}", 0, noBodyLong, []int{200, 304}, a.getState})
	add(a.Discovery != nil, route{"getDiscovery", "GET", "/login/.well-known/openid-configuration", 0, noBody, []int{200, 304}, a.newKeyDocumentHandler(a.Discovery)})
	add(a.JWKS != nil, route{"getJWKS", "GET", "/login/.well-known/jwks", 0, noBody, []int{200, 304}, a.newKeyDocumentHandler(a.JWKS)})
	add(a.MailSubscriptions != nil, a.mailRoutes()...)
	all = append(all, a.contractRoutes()...)
	for i := range all {
		if all[i].method == http.MethodGet && all[i].body != noBody && all[i].body != noBodyLong {
			panic("httpapi: a GET with a body: " + all[i].operation)
		}
	}
	return all
}

func (a *API) appReadRoutes() []route {
	read := allowRoles(Platform, Partner, Operator)
	return []route{
		{"listApps", "GET", "/v1/apps", read, noBody, []int{200, 304}, a.listApps},
		{"getApp", "GET", "/v1/apps/{client_id}", read, noBody, []int{200, 304}, a.getApp},
		{"getEndpoint", "GET", "/v1/apps/{client_id}/endpoints/{endpoint}", read, noBody, []int{200}, a.getEndpoint},
	}
}

func (a *API) appWriteRoutes() []route {
	write := allowRoles(Partner, Operator)
	return []route{
		{"putApp", "PUT", "/v1/apps/{client_id}", write, jsonBody, []int{200, 201}, a.putApp},
		{"patchApp", "PATCH", "/v1/apps/{client_id}", write, patchBody, []int{200}, a.patchApp},
		{"deleteApp", "DELETE", "/v1/apps/{client_id}", allowRoles(Operator), noBody, []int{204}, a.deleteApp},
		{"putEndpoint", "PUT", "/v1/apps/{client_id}/endpoints/{endpoint}", write, jsonBody, []int{200}, a.putEndpoint},
		{"patchEndpoint", "PATCH", "/v1/apps/{client_id}/endpoints/{endpoint}", write, patchBody, []int{200}, a.patchEndpoint},
		{"pause", "POST", "/v1/apps/{client_id}/pause", write, optionalJSON, []int{200}, a.newPauseHandler(true)},
		{"resume", "POST", "/v1/apps/{client_id}/resume", write, optionalJSON, []int{200}, a.newPauseHandler(false)},
		{"rotateSecret", "POST", "/v1/apps/{client_id}/secrets", write, optionalJSON, []int{200}, a.rotateSecret},
	}
}
