package httpapi

import (
	"reflect"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/apitypes"
	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// TestShapesHaveTheBoundsOfTheRules: a bound in a tag is the one that the code checks.
func TestShapesHaveTheBoundsOfTheRules(t *testing.T) {
	t.Parallel()
	of := func(value any, name string) apitypes.Member {
		for _, m := range apitypes.ShapeOf(reflect.TypeOf(value)).Members {
			if m.Name == name {
				return m
			}
		}
		t.Fatalf("%T has no member %s", value, name)
		return apitypes.Member{}
	}
	app := apitypes.App{}
	for name, c := range map[string]struct{ tag, rule int64 }{
		"name":              {int64(of(app, "name").MaxLength), partner.MaxNameLength},
		"error_emails":      {int64(of(app, "error_emails").MaxItems), partner.MaxErrorEmails},
		"required_licenses": {int64(of(app, "required_licenses").MaxItems), int64(len(partner.AllLicenses()))},
		"granted_licenses":  {int64(of(app, "granted_licenses").MaxItems), int64(len(partner.AllLicenses()))},
		"public_keys":       {int64(of(app, "public_keys").MaxItems), partner.MaxPublicKeys},
		"budget_factor":     {*of(app, "budget_factor").Max, partner.MaxBudgetFactor},
		"url":               {int64(of(apitypes.Endpoint{}, "url").MaxLength), partner.MaxURLLength},
		"version of status": {int64(of(apitypes.Tenant{}, "version_name").MaxLength), maxVersion},
		"version of change": {int64(of(changeRequest{}, "version_name").MaxLength), maxVersion},
		"source_sequence":   {*of(changeRequest{}, "source_sequence").Max, registry.MaxSourceSequence},
		"excerpt":           {int64(of(errorReport{}, "excerpt").MaxLength), maxExcerpt},
		"grace_seconds":     {*of(rotationRequest{}, "grace_seconds").Max, int64(apps.MaxGrace / time.Second)},
		"tenants":           {int64(of(resyncRequest{}, "tenants").MaxItems), maxResync},
		"token's name":      {int64(of(tokenRequest{}, "name").MaxLength), maxTokenName},
	} {
		if c.tag != c.rule {
			t.Errorf("%s: the document says %d, the code %d", name, c.tag, c.rule)
		}
	}
}
