package compare_test

import (
	"testing"

	"github.com/lamplighter/lamplighter/internal/mailbox"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/tenant"
)

// switched tells an app's mailbox its settings, as the sweep does.
func (w *world) switched(app partner.ClientID) {
	w.Helper()
	rec := ok[registry.AppRecord](w)(w.reg.App(w.Context(), app))
	ok[mailbox.Wake](w)(w.box.ApplySwitch(w.Context(), "n", mailbox.Switch{
		Life: mailbox.Life{App: app, Birth: rec.Birth}, Revision: rec.Revision, EndpointRevision: rec.EndpointRevision, On: rec.App.IsDelivering(partner.Online),
	}))
}

// Settings that lost their last writes, while the mailbox keeps what it was told of them, are healed within one
// round: the app is told to its mailbox anew, and what was consented to a life that was lost reaches nobody else.
func TestSettingsThatLostTheirLastWrites(t *testing.T) {
	for name, row := range map[string]struct {
		lost func(w *world)
		keep bool // the approvals of the life that is known
	}{
		"SwitchedOff": {func(w *world) {
			rec := ok[registry.AppRecord](w)(w.reg.App(w.Context(), "app1"))
			rec.App.Endpoints[partner.StateChange].Enabled = false
			_, _, err := w.reg.PutApp(w.Context(), rec.App, rec.Revision, nil, registry.Actor{Name: "test"}, "app.patch")
			w.must(err)
			w.switched("app1")
		}, true},
		"Deleted": {func(w *world) {
			revision := ok[int64](w)(w.reg.DeleteApp(w.Context(), "app1", registry.AnyRevision, registry.Actor{Name: "test"}))
			w.must(w.box.EndLife(w.Context(), mailbox.Life{App: "app1", Birth: revision}))
		}, false},
		"DeletedAndMadeAgain": {func(w *world) {
			revision := ok[int64](w)(w.reg.DeleteApp(w.Context(), "app1", registry.AnyRevision, registry.Actor{Name: "test"}))
			w.must(w.box.EndLife(w.Context(), mailbox.Life{App: "app1", Birth: revision}))
			w.app("app1", hook)
			w.switched("app1")
			w.approve("app1", "a")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				healthy(w)
				w.switched("app1")
				was := w.snapshot("config")
				row.lost(w)
				w.lose("config", was)
				w.must(w.dir.Refresh(w.Context()))
				if _, got := w.round(); got["settings"] != 1 {
					t.Errorf("closed %v, want the settings once", got)
				}
				w.must(w.dir.Refresh(t.Context()))
				w.switched("app1")
				v := ok[mailbox.View](w)(w.box.View(t.Context(), "app1"))
				rec := ok[registry.AppRecord](w)(w.reg.App(t.Context(), "app1"))
				if v.Off || v.Birth != rec.Birth || v.Revision != rec.Revision || (v.Approvals > 0) != row.keep {
					t.Errorf("the mailbox stands at %+v, the settings at revision %d, birth %d", v, rec.Revision, rec.Birth)
				}
				if row.keep {
					w.accept("a", tenant.Suspend)
					w.must(w.fan.Run(t.Context(), []tenant.ID{"a"}))
					if st := ok[[]mailbox.PairState](w)(w.box.ReadPairs(t.Context(), "app1", []tenant.ID{"a"})); !st[0].HasPending() {
						t.Error("the next change does not wait")
					}
				}
			})
		})
	}
}
