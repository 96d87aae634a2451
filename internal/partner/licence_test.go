package partner_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/partner"
)

func TestParseRequirements(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		items []string
		want  []string
		ok    bool
	}{
		"None":          {nil, []string{}, true},
		"Default":       {partner.DefaultRequirements().Items(), []string{"erp_sync=integration_server", "mirroring=database_mirroring"}, true},
		"Ordered":       {[]string{"mirroring=custom_apps", "quote_connector=expander_services"}, []string{"quote_connector=expander_services", "mirroring=custom_apps"}, true},
		"NoSign":        {[]string{"mirroring"}, nil, false},
		"NoEndpoint":    {[]string{"mirrors=database_mirroring"}, nil, false},
		"NoLicence":     {[]string{"mirroring=gold"}, nil, false},
		"EmptyLicence":  {[]string{"mirroring="}, nil, false},
		"Twice":         {[]string{"mirroring=custom_apps", "mirroring=database_mirroring"}, nil, false},
		"NotForChanges": {[]string{"state_change=custom_apps"}, nil, false},
	} {
		got, err := partner.ParseRequirements(tc.items)
		if (err == nil) != tc.ok {
			t.Errorf("%s: error %v", name, err)
		}
		if tc.ok && !cmp.Equal(got.Items(), tc.want) {
			t.Errorf("%s: %v, want %v", name, got.Items(), tc.want)
		}
	}
}

func TestLicences(t *testing.T) {
	t.Parallel()
	rules := partner.DefaultRequirements()
	app := partner.New("app1")
	app.RequiredLicenses = []partner.License{partner.CustomApps, partner.DatabaseMirroring}
	app.GrantedLicenses = []partner.License{partner.CustomApps}
	for _, k := range partner.AllEndpointKinds() {
		app.Endpoints[k] = partner.Endpoint{Enabled: true, URLs: map[partner.Environment]string{partner.Online: "https://a.example/"}}
	}
	type answer struct {
		Missing partner.License
		Usable  bool
	}
	got := map[string]answer{}
	for _, k := range partner.AllEndpointKinds() {
		got[k.String()] = answer{rules.Missing(&app, k), rules.Usable(&app, k, partner.Online)}
	}
	want := map[string]answer{
		"state_change": {"", true}, "quote_connector": {"", true},
		"erp_sync": {partner.IntegrationServer, false}, "mirroring": {partner.DatabaseMirroring, false},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("licences (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]partner.License{partner.DatabaseMirroring}, app.MissingLicenses()); d != "" {
		t.Errorf("required and not granted (-want +got):\n%s", d)
	}
	app.GrantedLicenses = append(app.GrantedLicenses, partner.DatabaseMirroring)
	if !rules.Usable(&app, partner.Mirroring, partner.Online) || rules.Usable(&app, partner.Mirroring, partner.Stage) {
		t.Error("granted: want usable where it has a URL, and only there")
	}
}
