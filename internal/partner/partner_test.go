package partner_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/partner"
)

func TestParseClientID(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{
		"app1": true, "0": true, "A.b_c-9": true, "0123456789abcdef0123456789abcdef": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, ".a": false, "_a": false, "-a": false, "a{b": false, "a}": false,
		"a b": false, "a\n": false, "é": false, "a|b": false, "a/b": false, "a:b": false, "a\x00": false, "a;b": false,
	} {
		id, err := partner.ParseClientID(in)
		if (err == nil) != ok {
			t.Errorf("ParseClientID(%q) error = %v, want ok %v", in, err, ok)
		}
		if ok && id.String() != in {
			t.Errorf("ParseClientID(%q) = %q", in, id)
		}
		if !ok && !errors.Is(err, partner.ErrInvalidClientID) {
			t.Errorf("ParseClientID(%q) error %v is not ErrInvalidClientID", in, err)
		}
	}
}

// A client id is part of Redis keys: it must never hold what ends a hash tag or separates a field.
func FuzzParseClientID(f *testing.F) {
	for _, s := range []string{"app1", "", "a{b}", "a\x00", strings.Repeat("x", 64), "é", "a|b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := partner.ParseClientID(s)
		if err != nil {
			if id != "" {
				t.Errorf("ParseClientID(%q) = %q beside an error", s, id)
			}
			return
		}
		if string(id) != s || len(s) > partner.MaxClientIDLength || strings.ContainsAny(s, "{}|:;/ \n\x00*") {
			t.Errorf("ParseClientID accepts %q", s)
		}
	})
}

// The names are a contract with users, tests and dashboards; the tables repeat them on purpose.
func TestEndpointKinds(t *testing.T) {
	t.Parallel()
	want := []string{"state_change", "erp_sync", "quote_connector", "mirroring"}
	kinds := partner.AllEndpointKinds()
	if len(kinds) != partner.EndpointKinds {
		t.Fatalf("%d kinds listed, want %d", len(kinds), partner.EndpointKinds)
	}
	for i, k := range kinds {
		if int(k) != i || k.String() != want[i] {
			t.Errorf("kind %d = %d %q, want %q", i, k, k, want[i])
		}
		back, err := partner.ParseEndpointKind(want[i])
		if err != nil || back != k {
			t.Errorf("ParseEndpointKind(%q) = %v, %v", want[i], back, err)
		}
		text, err := json.Marshal(map[partner.EndpointKind]int{k: 1})
		if err != nil || string(text) != `{"`+want[i]+`":1}` {
			t.Errorf("as a JSON key: %s, %v", text, err)
		}
		var m map[partner.EndpointKind]int
		if err := json.Unmarshal(text, &m); err != nil || m[k] != 1 {
			t.Errorf("back from JSON: %v, %v", m, err)
		}
	}
	for _, s := range []string{"", "State_Change", "state-change", "mirror", "endpoint(4)"} {
		if _, err := partner.ParseEndpointKind(s); !errors.Is(err, partner.ErrUnknownEndpoint) {
			t.Errorf("ParseEndpointKind(%q) error = %v", s, err)
		}
	}
	if got := partner.EndpointKind(9).String(); got != "endpoint(9)" {
		t.Errorf("an unknown kind is called %q", got)
	}
	if _, err := partner.EndpointKind(9).MarshalText(); !errors.Is(err, partner.ErrUnknownEndpoint) {
		t.Errorf("an unknown kind is written: %v", err)
	}
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	hosts := map[partner.Environment]string{"sod": "sod", "stage": "qaonline", "online": "online"}
	if got := len(partner.AllEnvironments()); got != len(hosts) {
		t.Errorf("%d environments", got)
	}
	for _, e := range partner.AllEnvironments() {
		if back, err := partner.ParseEnvironment(string(e)); err != nil || back != e {
			t.Errorf("ParseEnvironment(%q) = %q, %v", e, back, err)
		}
		if e.Host() != hosts[e] {
			t.Errorf("host of %s = %q, want %q", e, e.Host(), hosts[e])
		}
	}
	for _, s := range []string{"", "Online", "qaonline", "prod"} {
		if _, err := partner.ParseEnvironment(s); !errors.Is(err, partner.ErrUnknownEnvironment) {
			t.Errorf("ParseEnvironment(%q) error = %v", s, err)
		}
	}
}

func TestEffectiveURL(t *testing.T) {
	t.Parallel()
	const base, stage = "https://a.example/", "https://b.example/"
	for name, tc := range map[string]struct {
		e             partner.Endpoint
		online, stage string
	}{
		"Unset":         {partner.Endpoint{}, "", ""},
		"Base":          {partner.Endpoint{URL: base}, base, base},
		"Override":      {partner.Endpoint{URL: base, URLs: map[partner.Environment]string{partner.Stage: stage}}, base, stage},
		"OnlyOverride":  {partner.Endpoint{URLs: map[partner.Environment]string{partner.Stage: stage}}, "", stage},
		"EmptyOverride": {partner.Endpoint{URL: base, URLs: map[partner.Environment]string{partner.Stage: ""}}, base, base},
	} {
		for _, enabled := range []bool{false, true} {
			tc.e.Enabled = enabled
			for env, want := range map[partner.Environment]string{partner.Online: tc.online, partner.Stage: tc.stage} {
				if got := tc.e.EffectiveURL(env); got != want {
					t.Errorf("%s: URL in %s = %q, want %q", name, env, got, want)
				}
				if got := tc.e.IsOn(env); got != (enabled && want != "") {
					t.Errorf("%s: on in %s = %v with enabled %v", name, env, got, enabled)
				}
			}
		}
	}
}

func TestDelivering(t *testing.T) {
	t.Parallel()
	app := partner.New("app1")
	app.Endpoints[partner.Mirroring] = partner.Endpoint{URL: "https://a.example/", Enabled: true}
	if app.IsDelivering(partner.Online) {
		t.Error("an app without a state-change URL is delivered to")
	}
	app.Endpoints[partner.StateChange] = partner.Endpoint{URL: "https://a.example/", Enabled: true}
	if !app.IsDelivering(partner.Online) {
		t.Error("an app that is on is not delivered to")
	}
	if got := app.Endpoint(partner.StateChange); got.URL != "https://a.example/" {
		t.Errorf("Endpoint = %+v", got)
	}
	app.Paused = true
	if app.IsDelivering(partner.Online) {
		t.Error("a paused app is delivered to")
	}
}

func TestErrorRecipients(t *testing.T) {
	t.Parallel()
	contact := partner.Contact{Email: "kim@example.com"}
	for name, tc := range map[string]struct {
		app  partner.App
		want []string
	}{
		"Nobody":  {partner.App{}, nil},
		"Contact": {partner.App{TechnicalContact: contact}, []string{"kim@example.com"}},
		"List":    {partner.App{TechnicalContact: contact, ErrorEmails: []string{"a@example.com", "b@example.com"}}, []string{"a@example.com", "b@example.com"}},
	} {
		if d := cmp.Diff(tc.want, tc.app.ErrorRecipients()); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	app := partner.New("app1")
	if app.ClientID != "app1" || app.TokenAlgorithm != partner.RS256 || app.Paused || app.EverHadURL {
		t.Errorf("New = %+v", app)
	}
	for _, k := range partner.AllEndpointKinds() {
		if e := app.Endpoint(k); !e.SendErrorEmails || e.Enabled || e.URL != "" {
			t.Errorf("%s = %+v", k, e)
		}
	}
}

var (
	before = time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	now    = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
)

// Normalize derives switch times and reasons from what stood before.
func TestNormalizeSwitches(t *testing.T) {
	t.Parallel()
	on := partner.Endpoint{URL: "https://a.example/", Enabled: true, SwitchedAt: before}
	off := partner.Endpoint{URL: "https://a.example/", SwitchedAt: before}
	gone := partner.Endpoint{URL: "https://a.example/", SwitchedAt: before, OffReason: partner.OffGone}
	for name, tc := range map[string]struct {
		old  *partner.Endpoint
		set  partner.Endpoint
		want partner.Endpoint
	}{
		"NewOn":             {nil, partner.Endpoint{Enabled: true}, partner.Endpoint{Enabled: true, SwitchedAt: now}},
		"NewOff":            {nil, partner.Endpoint{}, partner.Endpoint{}},
		"StaysOn":           {&on, partner.Endpoint{Enabled: true}, partner.Endpoint{Enabled: true, SwitchedAt: before}},
		"StaysOff":          {&off, partner.Endpoint{}, partner.Endpoint{SwitchedAt: before}},
		"SwitchedOff":       {&on, partner.Endpoint{}, partner.Endpoint{SwitchedAt: now}},
		"SwitchedOn":        {&off, partner.Endpoint{Enabled: true}, partner.Endpoint{Enabled: true, SwitchedAt: now}},
		"OffByService":      {&on, partner.Endpoint{OffReason: partner.OffFailing}, partner.Endpoint{SwitchedAt: now, OffReason: partner.OffFailing}},
		"ReasonStays":       {&gone, partner.Endpoint{}, partner.Endpoint{SwitchedAt: before, OffReason: partner.OffGone}},
		"ReasonChanges":     {&gone, partner.Endpoint{OffReason: partner.OffFailing}, partner.Endpoint{SwitchedAt: before, OffReason: partner.OffFailing}},
		"OnClearsReason":    {&gone, partner.Endpoint{Enabled: true, OffReason: partner.OffGone}, partner.Endpoint{Enabled: true, SwitchedAt: now}},
		"WriterSetsNoTime":  {&on, partner.Endpoint{Enabled: true, SwitchedAt: now}, partner.Endpoint{Enabled: true, SwitchedAt: before}},
		"NewWriterHasNoSay": {nil, partner.Endpoint{SwitchedAt: now}, partner.Endpoint{}},
	} {
		var old *partner.App
		if tc.old != nil {
			a := partner.New("app1")
			a.Endpoints[partner.ERPSync] = *tc.old
			old = &a
		}
		app := partner.New("app1")
		app.Endpoints[partner.ERPSync] = tc.set
		got := partner.NormalizeApp(app, old, now).Endpoints[partner.ERPSync]
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestNormalizeTimesAndURL(t *testing.T) {
	t.Parallel()
	app := partner.NormalizeApp(partner.New("app1"), nil, before)
	if !app.CreatedAt.Equal(before) || !app.UpdatedAt.Equal(before) || app.EverHadURL {
		t.Errorf("a new app: %+v", app)
	}
	withURL := app
	withURL.CreatedAt = now // a writer has no say in it
	withURL.Endpoints[partner.StateChange].URL = "https://a.example/"
	app = partner.NormalizeApp(withURL, &app, now)
	if !app.CreatedAt.Equal(before) || !app.UpdatedAt.Equal(now) || !app.EverHadURL {
		t.Errorf("with a URL: %+v", app)
	}
	without := partner.New("app1")
	if got := partner.NormalizeApp(without, &app, now); !got.EverHadURL {
		t.Error("an app that lost its URL is taken for one that never had any")
	}
	override := partner.New("app2")
	override.Endpoints[partner.StateChange].URLs = map[partner.Environment]string{partner.Stage: ""}
	if got := partner.NormalizeApp(override, nil, now); got.EverHadURL {
		t.Error("an empty override counts as a URL")
	}
	override.Endpoints[partner.StateChange].URLs = map[partner.Environment]string{partner.Stage: "https://a.example/"}
	if got := partner.NormalizeApp(override, nil, now); !got.EverHadURL {
		t.Error("an override does not count as a URL")
	}
	other := partner.New("app3")
	other.Endpoints[partner.Mirroring].URL = "https://a.example/"
	if got := partner.NormalizeApp(other, nil, now); got.EverHadURL {
		t.Error("another endpoint's URL counts as a state-change URL")
	}
}

func TestNormalizeLeavesItsArgumentsAlone(t *testing.T) {
	t.Parallel()
	old := partner.NormalizeApp(partner.New("app1"), nil, before)
	was := old
	set := partner.New("app1")
	set.Endpoints[partner.StateChange].Enabled = true
	given := set
	got := partner.NormalizeApp(set, &old, now)
	if d := cmp.Diff(was, old); d != "" {
		t.Errorf("old changed:\n%s", d)
	}
	if d := cmp.Diff(given, set); d != "" {
		t.Errorf("app changed:\n%s", d)
	}
	if d := cmp.Diff(got, partner.NormalizeApp(got, &got, now)); d != "" {
		t.Errorf("normalizing again changes (-first +second):\n%s", d)
	}
}

func TestAppJSONRoundTrip(t *testing.T) {
	t.Parallel()
	app := partner.New("app1")
	app.Name = "Ø <App>"
	app.Endpoints[partner.StateChange] = partner.Endpoint{
		URL: "https://a.example/?a=1&b=2", URLs: map[partner.Environment]string{partner.Stage: "https://b.example/"},
		Enabled: true, OffReason: partner.OffGone, SwitchedAt: now,
	}
	app.GrantedLicenses = partner.AllLicenses()
	app = partner.NormalizeApp(app, nil, now)
	b, err := json.Marshal(app)
	if err != nil {
		t.Fatal(err)
	}
	var back partner.App
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(app, back); d != "" {
		t.Errorf("(-written +read):\n%s", d)
	}
}
