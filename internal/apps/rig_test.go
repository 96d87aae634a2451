package apps_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/apps"
	"github.com/lamplighter/lamplighter/internal/delivery"
	"github.com/lamplighter/lamplighter/internal/guard"
	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/told"
)

// rig is a Writer with everything beside it: one app, what is written of it, and what follows.
type rig struct {
	*apps.Writer

	now     time.Time
	stored  *registry.AppRecord
	secrets registry.WebhookSecrets
	// overtakenBy writes come between each read and the write that follows it.
	overtakenBy int
	notes       []registry.AuditNote
	// effects are what followed the writes; they fail with fail.
	effects []string
	fail    error
	log     bytes.Buffer
	probes  int
	probe   health.TestResult
}

func newRig(t *testing.T, stored *partner.App, change ...func(*apps.Options)) *rig {
	t.Helper()
	r := &rig{now: time.Unix(1_700_000_000, 0), probe: health.TestResult{State: health.StatusHealthy, Cause: told.FindCause("none")}}
	if stored != nil {
		r.stored = &registry.AppRecord{App: *stored, Revision: 10, Birth: 10}
	}
	o := apps.Options{
		Store: r, Effects: r, Addresses: r, Prober: r, Environment: partner.Online, Now: func() time.Time { return r.now },
		Random: strings.NewReader(strings.Repeat("random.. ", 100)), Log: slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	for _, f := range change {
		f(&o)
	}
	r.Writer = apps.New(o)
	return r
}

// newApp is an app with an endpoint for each kind, all off.
func newApp() partner.App {
	app := partner.New("app1")
	app.Name, app.TechnicalContact = "App", partner.Contact{Name: "Kim", Email: "kim@partner.example"}
	for _, k := range partner.AllEndpointKinds() {
		app.Endpoints[k].URL = "https://partner.example/" + k.String()
	}
	return app
}

func (r *rig) App(_ context.Context, id partner.ClientID) (registry.AppRecord, error) {
	if r.stored == nil {
		return registry.AppRecord{}, fmt.Errorf("app %s: %w", id, registry.ErrNotFound)
	}
	rec := *r.stored
	if r.overtakenBy > 0 {
		r.overtakenBy--
		r.stored.Revision++
	}
	return rec, nil
}

func (r *rig) PutApp(
	_ context.Context, app partner.App, expect int64, secrets *registry.WebhookSecrets, _ registry.Actor, _ string, notes ...registry.AuditNote,
) (registry.AppRecord, bool, error) {
	created := r.stored == nil
	if created != (expect == registry.NoRevision) || !created && r.stored.Revision != expect {
		return registry.AppRecord{}, false, registry.ErrConflict
	}
	rec := registry.AppRecord{App: app, Revision: expect + 10, Birth: 10}
	if r.stored != nil {
		rec.Birth = r.stored.Birth
	}
	if r.stored, r.notes = &rec, notes; secrets != nil {
		r.secrets = *secrets
	}
	return rec, created, nil
}

func (r *rig) DeleteApp(_ context.Context, _ partner.ClientID, expect int64, _ registry.Actor) (int64, error) {
	switch {
	case r.stored == nil:
		return 0, registry.ErrNotFound
	case expect != registry.AnyRevision && expect != r.stored.Revision:
		return 0, registry.ErrConflict
	}
	revision := r.stored.Revision + 1
	r.stored = nil
	return revision, nil
}

func (r *rig) Secrets(context.Context, partner.ClientID) (registry.WebhookSecrets, error) {
	return r.secrets, nil
}

func (r *rig) AppWritten(ctx context.Context, old *registry.AppRecord, _ registry.AppRecord) error {
	what := "changed"
	if old == nil {
		what = "made"
	}
	r.effects = append(r.effects, what)
	return errors.Join(r.fail, ctx.Err())
}

func (r *rig) AppResumed(context.Context, registry.AppRecord) error {
	r.effects = append(r.effects, "resumed")
	return r.fail
}

func (r *rig) AppDeleted(context.Context, partner.ClientID, int64, registry.Actor) (string, error) {
	r.effects = append(r.effects, "deleted")
	return "job1", r.fail
}

func (r *rig) EndpointGone(context.Context, partner.ClientID, partner.EndpointKind, delivery.Result) error {
	r.effects = append(r.effects, "gone")
	return r.fail
}

func (*rig) CheckURL(raw string) (*url.URL, error) { return url.Parse(raw) }

func (*rig) CheckHost(_ context.Context, u *url.URL) ([]netip.Addr, error) {
	if u.Hostname() == "unknown.example" {
		return nil, guard.ErrNoHost
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

func (*rig) CheckKey(context.Context, *url.URL, []netip.Addr) error { return nil }

func (r *rig) TestSettings(context.Context, partner.App, partner.EndpointKind) (health.TestResult, error) {
	r.probes++
	return r.probe, nil
}

// rename is a write that renames the app.
func rename(name string) apps.Write {
	return apps.Write{App: "app1", Action: "app.patch", Caller: apps.Caller{Factor: 1}, Change: func(stored *registry.AppRecord) (partner.App, error) {
		if stored == nil {
			return partner.App{}, io.ErrUnexpectedEOF
		}
		app := stored.App
		app.Name = name
		return app, nil
	}}
}

// switchOn is a write that switches an endpoint on.
func switchOn(k partner.EndpointKind) apps.Write {
	w := rename("App")
	w.Change = func(stored *registry.AppRecord) (partner.App, error) {
		app := stored.App
		app.Endpoints[k].Enabled = true
		return app, nil
	}
	return w
}
