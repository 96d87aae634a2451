package httpapi

import (
	"net/http"
	"strings"

	"github.com/lamplighter/lamplighter/internal/httpapi/openapi"
)

// contract is the API's own description, made once.
type contract struct{ document, page []byte }

// contractPaths are where it is served, on the admin listener only.
const (
	documentPath = "/v1/openapi.json"
	pagePath     = "/docs"
)

// buildContract makes the document of the served operations. It panics when the table has an operation that is not
// described; a test checks that none is.
func (a *API) buildContract() contract {
	ops := a.contractOperations()
	described, err := openapi.BuildDocument(a.versionOrDefault(), ops, a.describeShapes())
	if err != nil {
		panic("httpapi: " + err.Error())
	}
	page, err := openapi.RenderPage(described)
	if err != nil {
		panic("httpapi: " + err.Error())
	}
	return contract{described, page}
}

func (a *API) versionOrDefault() string {
	if a.Version == "" {
		return "unreleased"
	}
	return a.Version
}

// contractOperations is the table of routes in the form that package openapi reads.
func (a *API) contractOperations() []openapi.Operation {
	out := make([]openapi.Operation, len(a.routes))
	for i, r := range a.routes {
		out[i] = openapi.Operation{
			ID: r.operation, Method: r.method, Pattern: r.pattern, Success: r.success, Bodies: r.body.mediaTypes(), BodyOptional: r.body == optionalJSON,
			Conditional: r.isConditional(), Idempotent: r.isIdempotent(),
		}
		for _, k := range AllRoles() {
			if r.may.has(k) {
				out[i].Roles = append(out[i].Roles, k.String())
			}
		}
	}
	return out
}

// ListUnserved lists operations that the document's sources describe and this API does not serve.
func (a *API) ListUnserved() ([]string, error) { return openapi.ListUnserved(a.contractOperations()) }

// OpenAPI is the document that the API serves.
func (a *API) OpenAPI() []byte { return a.contract().document }

func (a *API) contractRoutes() []route {
	return []route{
		{"getOpenAPI", "GET", documentPath, 0, noBody, []int{200, 304}, a.getOpenAPI},
		{"getDocs", "GET", pagePath, 0, noBody, []int{200, 304}, a.getDocs},
	}
}

func (a *API) getOpenAPI(c *call) error {
	c.w.Header().Set("Cache-Control", "no-cache")
	return c.writeCacheable(a.contract().document)
}

// pagePolicy allows the page nothing but its own styles.
const pagePolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (a *API) getDocs(c *call) error {
	h := c.w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", pagePolicy)
	return c.writeCacheableAs("text/html; charset=utf-8", a.contract().page)
}

// isOnPublicListener reports whether an operation belongs to the public listener.
func (r route) isOnPublicListener() bool {
	return r.isPublic() && !strings.HasPrefix(r.pattern, "/v1/") && r.pattern != pagePath
}

// isConditional reports whether the operation compares If-Match with the current ETag.
func (r route) isConditional() bool {
	switch r.operation {
	case "putApp", "patchApp", "deleteApp", "putEndpoint", "patchEndpoint", "pause", "resume", "rotateSecret", "putTenantStatus", "putApproval", "deleteApproval":
		return true
	default:
		return false
	}
}

// isIdempotent reports whether the operation accepts an Idempotency-Key. The pages that mails link to do not: repeating
// them changes nothing.
func (r route) isIdempotent() bool {
	return r.method == http.MethodPost && !r.isPublic()
}
