package feed

import (
	"encoding/json"
	"fmt"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// Document is the body of an answer.
type Document struct {
	Revision string `json:"revision" doc:"The value for the parameter after of the next request."`
	// Complete is true when Apps has all apps: any other app that the reader knows is gone.
	Complete bool `json:"complete" doc:"True for a snapshot: endpoints that it does not name are off."`
	// Apps are complete objects: an endpoint that is absent is off.
	Apps    []app              `json:"apps"`
	Removed []partner.ClientID `json:"removed"`
}

type app struct {
	ClientID  partner.ClientID                  `json:"client_id"`
	Endpoints map[partner.EndpointKind]endpoint `json:"endpoints"`
}

// endpoint has a URL while it is on.
type endpoint struct {
	Enabled bool   `json:"enabled"`
	URL     string `json:"url,omitempty"`
}

// viewApp is what engines see of an app.
func (f *Feed) viewApp(a *partner.App) app {
	out := app{ClientID: a.ClientID, Endpoints: map[partner.EndpointKind]endpoint{}}
	for _, k := range partner.IntegrationKinds() {
		e := a.Endpoints[k]
		switch {
		case f.opts.Licences.Usable(a, k, f.opts.Environment):
			out.Endpoints[k] = endpoint{Enabled: true, URL: e.EffectiveURL(f.opts.Environment)}
		case e.Enabled || e.HasURL():
			out.Endpoints[k] = endpoint{}
		}
	}
	return out
}

func encodeDocument(d Document) ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode the feed: %w", err)
	}
	return append(b, '\n'), nil
}

// viewAllApps returns the apps that engines can see.
func (f *Feed) viewAllApps() []app {
	apps := []app{}
	for _, e := range f.opts.Apps.All() {
		if e.Rec.App.HasIntegration() {
			apps = append(apps, f.viewApp(&e.Rec.App))
		}
	}
	return apps
}

// viewChangedApps splits the changed and removed apps into those that engines still see and those that are gone for
// them.
func (f *Feed) viewChangedApps(changed, removed []partner.ClientID) (apps []app, gone []partner.ClientID) {
	apps, gone = []app{}, []partner.ClientID{}
	for _, list := range [][]partner.ClientID{changed, removed} {
		for _, id := range list {
			if e, ok := f.opts.Apps.App(id); ok && e.Rec.App.HasIntegration() {
				apps = append(apps, f.viewApp(&e.Rec.App))
			} else {
				gone = append(gone, id)
			}
		}
	}
	return apps, gone
}
