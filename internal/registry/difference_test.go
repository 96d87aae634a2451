package registry_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// big is an app near what may be stored, full of what JSON likes to escape.
func big(id string) partner.App {
	app := testApp(id)
	app.Name = strings.Repeat("<", partner.MaxNameLength)
	for _, k := range partner.AllEndpointKinds() {
		app.Endpoints[k].URL = "https://partner.example/" + strings.Repeat("<", partner.MaxURLLength/2)
		app.Endpoints[k].URLs = map[partner.Environment]string{}
		for _, env := range partner.AllEnvironments() {
			app.Endpoints[k].URLs[env] = "https://partner.example/" + k.String() + "?sig=" + strings.Repeat("&", partner.MaxURLLength/2)
		}
	}
	return app
}

func entrySize(e registry.AuditEntry) int {
	return len(e.ID) + len(e.Actor) + len(e.Role) + len(e.RequestID) + len(e.Action) + len(e.Subject) + len(e.Before) + len(e.After) + 60
}

// TestAuditKeepsDifferences: an entry takes 4 KiB at most, and says what differs, whatever the app holds.
func TestAuditKeepsDifferences(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		app := big("app1")
		put(t, s, app)
		app.TechnicalContact.Name = "E1"
		actor := registry.Actor{Name: strings.Repeat("ø", 400), Role: "operator", RequestID: strings.Repeat("r", 64)}
		_, _, err := s.PutApp(t.Context(), app, registry.AnyRevision, nil, actor, "app.patch")
		noErr(t, "write", err)
		app.Endpoints[partner.ERPSync].URL = "https://erp.example/hook?code=s3cret"
		_, _, err = s.PutApp(t.Context(), app, registry.AnyRevision, nil, kim, "app.patch")
		noErr(t, "write", err)
		_, err = s.DeleteApp(t.Context(), "app1", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		list, _, err := s.AuditEntries(t.Context(), registry.AuditQuery{})
		noErr(t, "audit", err)
		for _, e := range list {
			if n := entrySize(e); n > registry.AuditEntryMax {
				t.Errorf("%s has %d bytes", e.Action, n)
			}
			for _, text := range []string{e.Before, e.After} {
				if text != "" && !json.Valid([]byte(text)) {
					t.Errorf("%s: no JSON: %s", e.Action, text)
				}
				if strings.Contains(text, "s3cret") || strings.Contains(text, "&&") {
					t.Errorf("%s shows a query: %s", e.Action, text)
				}
			}
		}
		same(t, "what differs", []string{list[2].Before, list[2].After}, []string{`{"technical_contact":{"name":"Kim Ø"}}`, `{"technical_contact":{"name":"E1"}}`})
		same(t, "a URL", list[1].After, `{"endpoints":{"erp_sync":{"url":"https://erp.example/hook?[redacted]"}}}`)
		if !strings.Contains(list[3].After, `"sha256":`) || !strings.Contains(list[0].Before, `"sha256":`) || list[0].After != "" {
			t.Errorf("made %s, deleted %s", list[3].After, list[0].Before)
		}
		raw := s.rdb.XRange(t.Context(), s.keys.Config(keys.ConfigAudit), "-", "+").Val()
		if text := fmt.Sprint(raw); strings.Contains(text, "s3cret") || len(text) > 4*registry.AuditEntryMax {
			t.Errorf("the stream holds %d bytes", len(text))
		}
	})
}

// TestOldAuditEntriesAreShownShort: what an older version stored whole, queries and all, is shown as a new entry is.
func TestOldAuditEntriesAreShownShort(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		doc := func(name string) string {
			return fmt.Sprintf(`{"v":1,"client_id":"app1","name":%q,"endpoints":[{"url":"https://h.example/?code=s3cret"},{"url":%q}],"updated_at":%q}`, name, strings.Repeat("x", 100_000), time.Now())
		}
		for _, pair := range [][2]string{{doc("A"), doc("B")}, {"", doc("A")}, {doc("A"), ""}, {"", strings.Repeat("no JSON ", 1000)}} {
			s.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: s.keys.Config(keys.ConfigAudit), Values: []string{
				"v", "1", "actor", "kim", "role", "operator", "request", "", "action", "app.patch", "subject", "app1", "before", pair[0], "after", pair[1],
			}})
		}
		list, _, err := s.AuditEntries(t.Context(), registry.AuditQuery{})
		noErr(t, "audit", err)
		for _, e := range list {
			if n := entrySize(e); n > registry.AuditEntryMax || strings.Contains(e.Before+e.After, "s3cret") {
				t.Errorf("%d bytes: %s %s", n, e.Before, e.After)
			}
		}
		same(t, "both", []string{list[3].Before, list[3].After}, []string{`{"name":"A"}`, `{"name":"B"}`})
	})
}

// TestWritesThatChangeNothing: no revision, no audit, no feed; secrets and notes are a change.
func TestWritesThatChangeNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		app := testApp("app1")
		app.Endpoints[partner.ERPSync] = partner.Endpoint{URL: "https://erp.example/", Enabled: true}
		first, _, err := s.PutApp(t.Context(), app, registry.NoRevision, nil, kim, "app.put")
		noErr(t, "make", err)
		entries, feed := s.keys.Config(keys.ConfigAudit), s.keys.Config(keys.ConfigFeed)
		before := strconv.FormatInt(s.rdb.XLen(t.Context(), entries).Val(), 10) + s.rdb.HGet(t.Context(), feed, "revision").Val()
		for _, expect := range []int64{registry.AnyRevision, first.Revision} {
			again, created, err := s.PutApp(t.Context(), app, expect, nil, kim, "app.put")
			noErr(t, "write the same", err)
			same(t, "written", again, first)
			same(t, "created", created, false)
		}
		same(t, "revision", must[int64](t)(s.Revision(t.Context())), first.Revision)
		if after := strconv.FormatInt(s.rdb.XLen(t.Context(), entries).Val(), 10) + s.rdb.HGet(t.Context(), feed, "revision").Val(); after != before {
			t.Error("audit or feed changed")
		}
		_, _, err = s.PutApp(t.Context(), app, first.Revision+1, nil, kim, "app.put")
		wantErr(t, "the same at another revision", err, registry.ErrConflict)
		noted, _, err := s.PutApp(t.Context(), app, first.Revision, nil, kim, "app.put", registry.AuditNote{Action: "endpoint.moved"})
		if err != nil || noted.Revision <= first.Revision {
			t.Errorf("with a note: %d, %v", noted.Revision, err)
		}
	})
}

// TestStoredAppsAreBounded: an app takes 48 KiB at most; one that is larger may get smaller, and the service may write it.
func TestStoredAppsAreBounded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		app := big("app1")
		app.PublicKeys = []string{strings.Repeat("\x01", 5000), strings.Repeat("\n", 5000)}
		_, _, err := s.PutApp(ctx, app, registry.NoRevision, nil, kim, "app.put")
		var faults partner.ValidationError
		if faults, _ = err.(partner.ValidationError); len(faults) != 1 || !strings.Contains(faults[0].Detail, "49152") { //nolint:errorlint // as it is returned
			t.Fatalf("too large: %v", err)
		}
		_, err = s.App(ctx, "app1")
		wantErr(t, "the app", err, registry.ErrNotFound)
		service := registry.Actor{Name: "lamplighter", Role: "service"}
		rec, _, err := s.PutApp(ctx, app, registry.NoRevision, nil, service, "app.put")
		noErr(t, "the service's write", err)
		larger := app
		larger.TechnicalContact.Name = "Kim, who is longer"
		_, _, err = s.PutApp(ctx, larger, rec.Revision, nil, kim, "app.patch")
		if faults, _ = err.(partner.ValidationError); len(faults) != 1 { //nolint:errorlint // as it is returned
			t.Errorf("larger: %v", err)
		}
		app.TechnicalContact.Name = "K"
		_, _, err = s.PutApp(ctx, app, rec.Revision, nil, kim, "app.patch")
		noErr(t, "smaller", err)
	})
}
