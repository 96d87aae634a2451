package partner_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/lamplighter/lamplighter/internal/partner"
)

// pointers lists the fields that break a rule.
func pointers(t *testing.T, a *partner.App) []string {
	t.Helper()
	err := partner.ValidateApp(a)
	if err == nil {
		return nil
	}
	ve, ok := errors.AsType[partner.ValidationError](err)
	if !ok || len(ve) == 0 {
		t.Fatalf("Validate returned %T: %v", err, err)
	}
	var out []string
	for _, f := range ve {
		if f.Detail == "" || !strings.Contains(err.Error(), f.Pointer+": "+f.Detail) {
			t.Errorf("field %+v is not in %q", f, err)
		}
		out = append(out, f.Pointer)
	}
	slices.Sort(out)
	return out
}

func valid() *partner.App {
	a := partner.New("app1")
	a.Name = "Awesome App"
	return &a
}

func TestValidate(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", partner.MaxNameLength)
	for name, tc := range map[string]struct {
		set  func(a *partner.App)
		want []string
	}{
		"Minimal": {func(*partner.App) {}, nil},
		"Full": {func(a *partner.App) {
			a.Name = long
			a.TechnicalContact = partner.Contact{Name: "Kim Ø", Email: "kim@example.com", TimeZone: "Europe/Oslo"}
			a.ErrorEmails = []string{"a@example.com", "b.c+d@sub.example.com", "dev@localhost"}
			a.RequiredLicenses, a.GrantedLicenses = partner.AllLicenses(), partner.AllLicenses()
			a.TokenAlgorithm = partner.ES256
			a.ProbeTenant = "Cust12345"
		}, nil},
		"BadID":          {func(a *partner.App) { a.ClientID = "a{b}" }, []string{"/client_id"}},
		"NoName":         {func(a *partner.App) { a.Name = "" }, []string{"/name"}},
		"BlankName":      {func(a *partner.App) { a.Name = " \u00a0" }, []string{"/name"}},
		"LongName":       {func(a *partner.App) { a.Name = long + "x" }, []string{"/name"}},
		"NotUTF8":        {func(a *partner.App) { a.Name = "a\xff" }, []string{"/name"}},
		"ControlName":    {func(a *partner.App) { a.Name = "a\nb" }, []string{"/name"}},
		"BidiName":       {func(a *partner.App) { a.Name = "a\u202eb" }, []string{"/name"}},
		"LineSeparator":  {func(a *partner.App) { a.Name = "a\u2028b" }, []string{"/name"}},
		"LongContact":    {func(a *partner.App) { a.TechnicalContact.Name = long + "x" }, []string{"/technical_contact/name"}},
		"ContactHeader":  {func(a *partner.App) { a.TechnicalContact.Name = "Kim\r\nBcc: x@example.com" }, []string{"/technical_contact/name"}},
		"BadZone":        {func(a *partner.App) { a.TechnicalContact.TimeZone = "Mars/Olympus" }, []string{"/technical_contact/time_zone"}},
		"LocalZone":      {func(a *partner.App) { a.TechnicalContact.TimeZone = "Local" }, []string{"/technical_contact/time_zone"}},
		"ZoneLong":       {func(a *partner.App) { a.TechnicalContact.TimeZone = "Europe/" + strings.Repeat("./", 29) + "Oslo" }, []string{"/technical_contact/time_zone"}},
		"ZoneDot":        {func(a *partner.App) { a.TechnicalContact.TimeZone = "Europe/./Oslo" }, []string{"/technical_contact/time_zone"}},
		"ZoneSlashes":    {func(a *partner.App) { a.TechnicalContact.TimeZone = "Europe//Oslo" }, []string{"/technical_contact/time_zone"}},
		"ZonePosix":      {func(a *partner.App) { a.TechnicalContact.TimeZone = "posix/Europe/Oslo" }, []string{"/technical_contact/time_zone"}},
		"ZoneRight":      {func(a *partner.App) { a.TechnicalContact.TimeZone = "right/Europe/Oslo" }, []string{"/technical_contact/time_zone"}},
		"ZoneLocaltime":  {func(a *partner.App) { a.TechnicalContact.TimeZone = "localtime" }, []string{"/technical_contact/time_zone"}},
		"ZoneOffset":     {func(a *partner.App) { a.TechnicalContact.TimeZone = "Etc/GMT+5" }, nil},
		"ZoneDeep":       {func(a *partner.App) { a.TechnicalContact.TimeZone = "America/Argentina/ComodRivadavia" }, nil},
		"ZonePath":       {func(a *partner.App) { a.TechnicalContact.TimeZone = "../../etc/passwd" }, []string{"/technical_contact/time_zone"}},
		"TooManyEmails":  {func(a *partner.App) { a.ErrorEmails = make([]string, 11) }, []string{"/error_emails"}},
		"TwiceTheEmail":  {func(a *partner.App) { a.ErrorEmails = []string{"a@example.com", "A@Example.com"} }, []string{"/error_emails/1"}},
		"EmptyEmail":     {func(a *partner.App) { a.ErrorEmails = []string{""} }, []string{"/error_emails/0"}},
		"UnknownLicense": {func(a *partner.App) { a.RequiredLicenses = []partner.License{partner.CustomApps, "free_beer"} }, []string{"/required_licenses/1"}},
		"UnknownGranted": {func(a *partner.App) { a.GrantedLicenses = []partner.License{""} }, []string{"/granted_licenses/0"}},
		"LicenseTwice":   {func(a *partner.App) { a.GrantedLicenses = []partner.License{partner.CustomApps, partner.CustomApps} }, []string{"/granted_licenses/1"}},
		"NoAlgorithm":    {func(a *partner.App) { a.TokenAlgorithm = "" }, []string{"/token_algorithm"}},
		"NoneAlgorithm":  {func(a *partner.App) { a.TokenAlgorithm = "none" }, []string{"/token_algorithm"}},
		"BadProbeTenant": {func(a *partner.App) { a.ProbeTenant = "a b" }, []string{"/probe_tenant"}},
		"TooManyKeys":    {func(a *partner.App) { a.PublicKeys = make([]string, 5) }, []string{"/public_keys"}},
		"BadKey":         {func(a *partner.App) { a.PublicKeys = []string{"x"} }, []string{"/public_keys/0"}},
		"BadEndpoint":    {func(a *partner.App) { a.Endpoints[partner.Mirroring].URL = "x" }, []string{"/endpoints/mirroring/url"}},
		"BadOverride":    {func(a *partner.App) { a.Endpoints[partner.ERPSync].URLs = map[partner.Environment]string{"stage": "x"} }, []string{"/endpoints/erp_sync/urls/stage"}},
		"UnknownOverride": {func(a *partner.App) {
			a.Endpoints[partner.ERPSync].URLs = map[partner.Environment]string{"prod/x": "https://a.example/"}
		}, []string{"/endpoints/erp_sync/urls"}},
		"EmptyOverride": {func(a *partner.App) { a.Endpoints[partner.ERPSync].URLs = map[partner.Environment]string{"stage": ""} }, nil},
		"Everything": {func(a *partner.App) {
			*a = partner.App{Name: "\x00", ErrorEmails: []string{"x"}}
		}, []string{"/client_id", "/error_emails/0", "/name", "/token_algorithm"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := valid()
			tc.set(a)
			if d := cmp.Diff(tc.want, pointers(t, a)); d != "" {
				t.Errorf("fields (-want +got):\n%s", d)
			}
		})
	}
}

// Several overrides of one endpoint are always named in the same order.
func TestValidateIsDeterministic(t *testing.T) {
	t.Parallel()
	a := valid()
	a.Endpoints[partner.StateChange].URLs = map[partner.Environment]string{"sod": "x", "stage": "x", "online": "x", "a": "", "b": ""}
	want := partner.ValidateApp(a).Error()
	for range 50 {
		if got := partner.ValidateApp(a).Error(); got != want {
			t.Fatalf("two answers to one app:\n%s\n%s", want, got)
		}
	}
}

func TestEmails(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{
		"kim@example.com": true, "kim.o'hara+tag@sub.example.co": true, "kim@exämple.com": true, "påvel@example.com": true,
		"kim@localhost": true, strings.Repeat("a", 64) + "@" + strings.Repeat("b", 185) + ".com": true,
		"": false, "kim": false, "kim@": false, "@example.com": false, "kim@example": false, "kim@@example.com": false,
		"Kim <kim@example.com>": false, "<kim@example.com>": false, "kim@example.com,b@example.com": false,
		"kim@example.com;b@example.com": false, "kim @example.com": false, "kim@example.com\r\nBcc: b@example.com": false,
		"kim@[127.0.0.1]": false, "kim@example.com\x00": false, "kim\u202e@example.com": false, "kim\u200b@example.com": false,
		"a\xff@example.com": false, "kim@.com": false, "kim@example..com": false, "kim@example.com.": false,
		"kim@-example.com": false, "\"kim\"@example.com": false,
		strings.Repeat("a", 64) + "@" + strings.Repeat("b", 186) + ".com": false,
		"kim@exam_ple.com": false, "kim@example.com#x": false, "kim(comment)@example.com": false,
	} {
		a := valid()
		a.ErrorEmails = []string{in}
		if got := pointers(t, a) == nil; got != ok {
			t.Errorf("error email %q: ok %v, want %v", in, got, ok)
		}
		a = valid()
		a.TechnicalContact.Email = in
		if got := pointers(t, a) == nil; got != (ok || in == "") {
			t.Errorf("contact %q: ok %v, want %v", in, got, ok)
		}
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	fill := strings.Repeat("a", partner.MaxURLLength-len("https://a.example/"))
	for in, ok := range map[string]bool{
		"https://partner.example/hook": true, "https://partner.example:8443/a?b=c&d=%20": true, "https://[2001:db8::1]/x": true,
		"http://127.0.0.1:9000/": true, "https://a.example/" + fill: true, "https://exämple.com/": true,
		"https://a.example/" + fill + "a": false, "partner.example/hook": false, "/hook": false, "https://": false,
		"https:///hook": false, "https:partner.example": false, "mailto:kim@example.com": false, "javascript:alert(1)": false,
		"https://kim:pw@partner.example/": false, "https://kim@partner.example/": false, "https://@partner.example/": false,
		"https://a.example/#frag": false, "https://a.example/#": false, "https://a b.example/": false,
		"https://a.example/\n": false, "https://a.example/\x7f": false, "https://a.example/\xff": false, "https://:443/": false,
		"https://a.example/%zz": false, "https://a.example:port/": false, "https://a.example/\u202e": false,
		"https://a.example:0/": false, "https://a.example:65536/": false, "https://a.example:/": false,
		`https://a.example\@b.example/`: false, "https://a.example/a\u200bb": false,
	} {
		a := valid()
		a.Endpoints[partner.StateChange].URL = in
		if got := pointers(t, a) == nil; got != ok {
			t.Errorf("URL %q: ok %v, want %v", in, got, ok)
		}
	}
}

// An error must never repeat what was sent: it may be a secret.
func FuzzValidate(f *testing.F) {
	f.Add("app1", "Name", "kim@example.com", "https://partner.example/hook", "Europe/Oslo")
	f.Add("a{b}", "", "x@[1.2.3.4]", "https://u:p@h/#f", "Local")
	f.Add("", "\xff", "a@b\r\n.c", "https://h:99999/", "../x")
	f.Fuzz(func(t *testing.T, id, name, email, rawURL, zone string) {
		a := partner.New(partner.ClientID(id))
		a.Name = name
		a.TechnicalContact = partner.Contact{Name: name, Email: email, TimeZone: zone}
		a.ErrorEmails = []string{email}
		a.Endpoints[partner.ERPSync] = partner.Endpoint{URL: rawURL, URLs: map[partner.Environment]string{partner.Stage: rawURL}}
		err := partner.ValidateApp(&a)
		if err != nil {
			for _, in := range []string{name, email, rawURL} {
				if len(in) > 40 && strings.Contains(err.Error(), in) {
					t.Errorf("the error repeats %q", in)
				}
			}
			return
		}
		if _, err := partner.ParseClientID(id); err != nil {
			t.Errorf("accepted the client id %q", id)
		}
		for _, s := range []string{name, email, rawURL} {
			if strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("accepted control characters in %q", s)
			}
		}
		if rawURL != "" {
			u, err := url.Parse(rawURL)
			if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
				t.Errorf("accepted the URL %q", rawURL)
			}
		}
	})
}

func TestValidationErrorText(t *testing.T) {
	t.Parallel()
	err := partner.ValidationError{{Pointer: "/name", Detail: "is required"}, {Pointer: "/x", Detail: "is odd"}}
	if got, want := fmt.Sprint(err), "invalid app: /name: is required; /x: is odd"; got != want {
		t.Errorf("text = %q, want %q", got, want)
	}
}
