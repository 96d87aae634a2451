package feed_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/feed"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// rig is a registry and one replica's feed on it.
type rig struct {
	t     testing.TB
	rdb   redis.UniversalClient
	store *registry.Store
	feed  *feed.Feed
	polls atomic.Int64
	down  atomic.Bool
}

var errDown = errors.New("redis is down")

// FeedRevision counts what the feed asks and fails when told to.
func (r *rig) FeedRevision(ctx context.Context, seen int64) (int64, error) {
	r.polls.Add(1)
	if r.down.Load() {
		return 0, errDown
	}
	return r.store.FeedRevision(ctx, seen)
}

func (r *rig) FeedSince(ctx context.Context, after int64) (registry.FeedDelta, error) {
	if r.down.Load() {
		return registry.FeedDelta{}, errDown
	}
	return r.store.FeedSince(ctx, after)
}

func newRig(t testing.TB, rdb redis.UniversalClient, change ...func(*feed.Options)) *rig {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, rdb: rdb, store: registry.New(rdb, registry.Options{Keyring: secret.NewKeyring(k)})}
	opts := feed.Options{
		Store: r, Apps: registry.NewDirectory(r.store), Environment: partner.Online, Licences: partner.DefaultRequirements(), Poll: 10 * time.Millisecond,
	}
	for _, f := range change {
		f(&opts)
	}
	r.feed = feed.New(opts)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	done.Go(func() { r.feed.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return r
}

func app(id string, change ...func(*partner.App)) partner.App {
	a := partner.New(partner.ClientID(id))
	a.Name = "App"
	a.GrantedLicenses = []partner.License{partner.IntegrationServer}
	a.Endpoints[partner.ERPSync] = partner.Endpoint{
		URL: "https://erp.example/" + id, URLs: map[partner.Environment]string{partner.Development: "https://sod.example/" + id}, Enabled: true,
	}
	for _, f := range change {
		f(&a)
	}
	return a
}

func off(a *partner.App) { a.Endpoints[partner.ERPSync].Enabled = false }

func (r *rig) put(a partner.App) {
	r.t.Helper()
	if _, _, err := r.store.PutApp(r.t.Context(), a, registry.AnyRevision, nil, registry.Actor{Name: "kim"}, "app.put"); err != nil {
		r.t.Fatal(err)
	}
}

// heard is an answer as engines read it.
type heard struct {
	Revision string
	Complete bool
	Apps     []struct {
		ClientID  string `json:"client_id"`
		Endpoints map[string]struct {
			Enabled bool
			URL     string
		}
	}
	Removed []string
}

func (r *rig) read(a feed.Answer, err error) heard {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	var h heard
	if err := json.Unmarshal(a.Body, &h); err != nil {
		r.t.Fatal(err)
	}
	if h.Revision != a.Revision || h.Apps == nil || h.Removed == nil {
		r.t.Errorf("answer %s of revision %s", a.Body, a.Revision)
	}
	return h
}

func (r *rig) snapshot() heard {
	r.t.Helper()
	return r.read(r.feed.Snapshot(r.t.Context()))
}

func (r *rig) since(revision string) heard {
	r.t.Helper()
	return r.read(r.feed.ChangesSince(r.t.Context(), revision, 0))
}

// body is an answer without its revision.
func body(t *testing.T, a feed.Answer, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(strings.TrimSpace(string(a.Body)), `"revision":"`+a.Revision+`",`, "", 1)
}

func TestSnapshotShowsWhatEnginesNeed(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Mini(t))
	a, err := r.feed.Snapshot(t.Context())
	if got, want := string(a.Body), `{"revision":"0","complete":true,"apps":[],"removed":[]}`+"\n"; err != nil || got != want {
		t.Errorf("nothing: %s, %v", got, err)
	}
	r.put(app("b", off))
	r.put(app("a", func(a *partner.App) {
		a.PublicKeys, a.TechnicalContact.Email = []string{"k"}, "kim@example.com"
		a.Endpoints[partner.Mirroring] = partner.Endpoint{URL: "https://mirror.example/", Enabled: true} // no licence
		a.Endpoints[partner.QuoteConnector] = partner.Endpoint{URLs: map[partner.Environment]string{partner.Stage: "https://q.example/"}, Enabled: true}
		a.Endpoints[partner.StateChange] = partner.Endpoint{URL: "https://hook.example/", Enabled: true}
	}))
	r.put(app("c", func(a *partner.App) { a.Endpoints = partner.New("c").Endpoints }))
	a, err = r.feed.Snapshot(t.Context())
	want := `{"complete":true,"apps":[{"client_id":"a","endpoints":{"erp_sync":{"enabled":true,"url":"https://erp.example/a"},` +
		`"mirroring":{"enabled":false},"quote_connector":{"enabled":false}}},{"client_id":"b","endpoints":{"erp_sync":{"enabled":false}}}],"removed":[]}`
	if got := body(t, a, err); got != want {
		t.Errorf("snapshot\n%s\nwant\n%s", got, want)
	}
}

func TestDeltas(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Mini(t))
	other := newRig(t, r.rdb) // another replica
	r.put(app("a"))
	r.put(app("b"))
	first := r.snapshot()
	if d := other.since(first.Revision); d.Complete || len(d.Apps) != 0 || d.Revision != first.Revision {
		t.Errorf("nothing happened: %+v", d)
	}
	r.put(app("a", off))
	second := other.since(first.Revision)
	if second.Complete || len(second.Apps) != 1 || second.Apps[0].ClientID != "a" || second.Apps[0].Endpoints["erp_sync"].Enabled {
		t.Errorf("switched off: %+v", second)
	}
	if _, err := r.store.DeleteApp(t.Context(), "b", registry.AnyRevision, registry.Actor{}); err != nil {
		t.Fatal(err)
	}
	third := r.since(second.Revision)
	if d := cmp.Diff([]string{"b"}, third.Removed); d != "" || len(third.Apps) != 0 {
		t.Errorf("removed: %+v", third)
	}
	r.put(app("b"))
	if d := r.since(first.Revision); len(d.Removed) != 0 || len(d.Apps) != 2 {
		t.Errorf("all since the first: %+v", d)
	}
	r.put(app("a", func(a *partner.App) { off(a); a.GrantedLicenses = nil }))
	r.put(app("b", func(a *partner.App) { a.GrantedLicenses = nil }))
	revoked := r.since(third.Revision)
	for _, a := range revoked.Apps {
		if a.Endpoints["erp_sync"].Enabled || a.Endpoints["erp_sync"].URL != "" {
			t.Errorf("the licence was taken back: %+v", a)
		}
	}
}

func TestRevisionsNobodyGaveOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Mini(t))
	r.put(app("a"))
	for _, revision := range []string{"9999999999999999", "1795482769152000"} {
		if _, err := r.feed.ChangesSince(t.Context(), revision, time.Minute); !errors.Is(err, feed.ErrUnknown) {
			t.Errorf("since %q: %v, want ErrUnknown", revision, err)
		}
	}
	for _, revision := range []string{"x", "-1", "+1", "01", "1.5", "1e3", "0x1", " 1", "1-", "1-zz", "1-ABCDEF01", "1-abcdef", "99999999999999999999", "1 OR 1"} {
		if _, err := r.feed.ChangesSince(t.Context(), revision, time.Minute); !errors.Is(err, feed.ErrMalformed) {
			t.Errorf("since %q: %v, want ErrMalformed", revision, err)
		}
	}
	if h := r.since("0"); h.Complete || len(h.Apps) != 1 {
		t.Errorf("since the beginning: %+v", h)
	}
}

// Another table of licences makes the same settings look different: nobody goes on from there.
func TestOtherRulesStartOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Mini(t))
	strict := newRig(t, r.rdb, func(o *feed.Options) {
		o.Licences = partner.Requirements{partner.ERPSync: partner.ExpanderServices}
	})
	r.put(app("a"))
	known := r.snapshot()
	over := strict.read(strict.feed.ChangesSince(t.Context(), known.Revision, time.Minute))
	if !over.Complete || over.Apps[0].Endpoints["erp_sync"].Enabled {
		t.Errorf("under other rules: %+v", over)
	}
	if same := strict.since(over.Revision); same.Complete || same.Revision != over.Revision {
		t.Errorf("under the same rules: %+v", same)
	}
	if back := r.since(over.Revision); !back.Complete || !back.Apps[0].Endpoints["erp_sync"].Enabled {
		t.Errorf("under the usual rules again: %+v", back)
	}
}

func TestLostWritesStartOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Mini(t))
	r.put(app("a"))
	before := r.snapshot()
	r.put(app("a", off))
	lost := r.snapshot()
	if err := r.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.put(app("b"))
	if err := r.rdb.HSet(t.Context(), "lamplighter:{config}:feed", "revision", before.Revision).Err(); err != nil {
		t.Fatal(err)
	}
	for _, known := range []string{before.Revision, lost.Revision} {
		if h := r.since(known); !h.Complete || len(h.Apps) != 1 || h.Apps[0].ClientID != "b" {
			t.Errorf("since %s: %+v", known, h)
		}
	}
}

func TestSameSettingsInTwoEnvironments(t *testing.T) {
	t.Parallel()
	online := newRig(t, redistest.Mini(t))
	sod := newRig(t, redistest.Mini(t), func(o *feed.Options) { o.Environment = partner.Development })
	for r, want := range map[*rig]string{online: "https://erp.example/a", sod: "https://sod.example/a"} {
		r.put(app("a"))
		if got := r.snapshot().Apps[0].Endpoints["erp_sync"].URL; got != want {
			t.Errorf("resolves to %s, want %s", got, want)
		}
	}
}
