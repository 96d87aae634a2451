package partner

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Requirements says which licence an endpoint needs before the platform may call it. An endpoint
// that is not in it needs none.
type Requirements map[EndpointKind]License

// DefaultRequirements are the platform's own rules.
func DefaultRequirements() Requirements {
	return Requirements{ERPSync: IntegrationServer, Mirroring: DatabaseMirroring}
}

// ParseRequirements reads items such as "mirroring=database_mirroring". A state-change endpoint cannot
// need a licence: a tenant's approval is enough for notifications.
func ParseRequirements(items []string) (Requirements, error) {
	r := Requirements{}
	for _, item := range items {
		endpoint, licence, ok := strings.Cut(item, "=")
		if !ok {
			return nil, fmt.Errorf("%q must be an endpoint, an equals sign and a licence, such as mirroring=database_mirroring", item)
		}
		k, err := ParseEndpointKind(endpoint)
		switch {
		case err != nil:
			return nil, err
		case k == StateChange:
			return nil, fmt.Errorf("%s cannot need a licence: only erp_sync, quote_connector and mirroring can", k)
		case !slices.Contains(AllLicenses(), License(licence)):
			return nil, fmt.Errorf("%q is no licence: must be one of %v", licence, AllLicenses())
		case r[k] != "":
			return nil, fmt.Errorf("%s is listed twice", k)
		}
		r[k] = License(licence)
	}
	return r, nil
}

// Items are the requirements as ParseRequirements reads them, ordered by endpoint.
func (r Requirements) Items() []string {
	out := make([]string, 0, len(r))
	for _, k := range slices.Sorted(maps.Keys(r)) {
		out = append(out, k.String()+"="+string(r[k]))
	}
	return out
}

// Missing is the licence that an app's endpoint needs and the app was not granted, empty for none.
func (r Requirements) Missing(app *App, k EndpointKind) License {
	if need := r[k]; need != "" && !slices.Contains(app.GrantedLicenses, need) {
		return need
	}
	return ""
}

// Usable reports whether the platform may call an endpoint in an environment: it is on, has a URL
// there, and the app holds the licence that it needs.
func (r Requirements) Usable(app *App, k EndpointKind, env Environment) bool {
	return app.Endpoints[k].IsOn(env) && r.Missing(app, k) == ""
}

// MissingLicenses are those the app requires and was not granted, in the order of RequiredLicenses.
func (a *App) MissingLicenses() []License {
	var out []License
	for _, l := range a.RequiredLicenses {
		if !slices.Contains(a.GrantedLicenses, l) {
			out = append(out, l)
		}
	}
	return out
}
