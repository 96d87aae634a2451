package apply

import (
	"reflect"
	"testing"
)

// What `apps get -o yaml` prints can be edited and applied, whatever state the app is in: each member of an answer is known, and
// each that can be written is compared as what it is.
func TestSchemasFollowTheAPI(t *testing.T) {
	t.Parallel()
	app, tenant := appSchema(), tenantSchema()
	endpoint := app["endpoints"].members["mirroring"].members
	for name, c := range map[string]struct{ got, want member }{
		"client_id":         {app["client_id"], member{kind: text}},
		"name":              {app["name"], member{kind: text}},
		"error_emails":      {app["error_emails"], member{kind: texts, set: true}},
		"public_keys":       {app["public_keys"], member{kind: texts}},
		"token_algorithm":   {app["token_algorithm"], member{kind: text}},
		"budget_factor":     {app["budget_factor"], member{kind: integer}},
		"approvals":         {app["approvals"], member{kind: texts}},
		"public_key_info":   {app["public_key_info"], member{kind: ignored}},
		"webhook_secret":    {app["webhook_secret"], member{kind: ignored}},
		"contact":           {app["technical_contact"].members["time_zone"], member{kind: text}},
		"url":               {endpoint["url"], member{kind: text}},
		"enabled":           {endpoint["enabled"], member{kind: boolean}},
		"health":            {endpoint["health"], member{kind: ignored}},
		"tenant":            {tenant["tenant"], member{kind: text}},
		"state":             {tenant["state"], member{kind: text}},
		"tenant's sequence": {tenant["sequence"], member{kind: ignored}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, c.got, c.want)
		}
	}
	urls := endpoint["urls"]
	if len(urls.members) != 3 || !urls.atomic {
		t.Errorf("urls: %+v, want the three environments, replaced as a whole", urls)
	}
}
