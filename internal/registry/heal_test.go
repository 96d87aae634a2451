package registry_test

import (
	"testing"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// What a mailbox was told and the settings lost is made good by a higher revision; a later life that was lost
// makes the app another one.
func TestHealApp(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		birth, revision, endpoint int64 // beyond those of the settings
		heals, anew               bool
	}{
		"NothingLost": {}, "Older": {birth: -5, revision: -5, endpoint: -5}, "Revision": {revision: 1_000_000, heals: true},
		"Endpoint": {endpoint: 1_000_000, heals: true}, "Life": {birth: 1_000_000, heals: true, anew: true},
		"All": {birth: 3, revision: 2, endpoint: 1_000_000, heals: true, anew: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, s fixture) {
				rec := put(t, s, testApp("app1"))
				other := put(t, s, testApp("app2"))
				told := []int64{rec.Birth + row.birth, rec.Revision + row.revision, rec.EndpointRevision + row.endpoint}
				for try := range 2 {
					did := must[bool](t)(s.HealApp(t.Context(), "app1", told[0], told[1], told[2]))
					if did != (row.heals && try == 0) {
						t.Errorf("try %d: healed %v", try, did)
					}
				}
				now := must[registry.AppRecord](t)(s.App(t.Context(), "app1"))
				same(t, "document", now.App, rec.App)
				if !row.heals {
					same(t, "record", now, rec)
					return
				}
				if now.Revision <= max(told[0], told[1], told[2], other.Revision) || now.EndpointRevision != now.Revision {
					t.Errorf("revision %d and %d are not above %v", now.Revision, now.EndpointRevision, told)
				}
				if anew := now.Birth == now.Revision; anew != row.anew || !row.anew && now.Birth != rec.Birth {
					t.Errorf("birth %d, was %d", now.Birth, rec.Birth)
				}
				changed, _, newest, err := s.ChangedSince(t.Context(), other.Revision)
				if err != nil || len(changed) != 1 || newest != now.Revision {
					t.Errorf("others do not read it anew: %v %d %v", changed, newest, err)
				}
			})
		})
	}
	each(t, func(t *testing.T, s fixture) {
		if must[bool](t)(s.HealApp(t.Context(), partner.ClientID("nobody"), 9, 9, 9)) {
			t.Error("an app that is not there was healed")
		}
	})
}
