package registry_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func TestPutAppCreatesAndReplaces(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		app := testApp("app1")
		rec, created, err := s.PutApp(ctx, app, registry.NoRevision, nil, kim, "app.put")
		noErr(t, "create", err)
		same(t, "created", rec, registry.AppRecord{App: app, Revision: rec.Revision, Birth: rec.Revision, EndpointRevision: rec.Revision})
		if !created || rec.Revision <= 0 {
			t.Error("a new app is not called created")
		}
		same(t, "read back", must[registry.AppRecord](t)(s.App(ctx, "app1")), rec)

		other := put(t, s, testApp("app2"))
		app.Name = "Renamed"
		rec, created, err = s.PutApp(ctx, app, rec.Revision, nil, kim, "app.patch")
		noErr(t, "replace", err)
		if created || rec.Revision <= other.Revision {
			t.Errorf("created, revision = %v, %d, want false and more than %d", created, rec.Revision, other.Revision)
		}
		same(t, "read back", must[registry.AppRecord](t)(s.App(ctx, "app1")).App.Name, "Renamed")
		same(t, "revision", must[int64](t)(s.Revision(ctx)), rec.Revision)
	})
}

func TestPutAppComparesRevisions(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		first := put(t, s, testApp("app1"))
		second := put(t, s, testApp("app1"))
		for _, expect := range []int64{registry.NoRevision, first.Revision, second.Revision + 1} {
			_, _, err := s.PutApp(ctx, testApp("app1"), expect, nil, kim, "app.put")
			wantErr(t, fmt.Sprintf("expecting %d", expect), err, registry.ErrConflict)
		}
		_, _, err := s.PutApp(ctx, testApp("other"), 1, nil, kim, "app.put")
		wantErr(t, "expecting a revision of an app that is not there", err, registry.ErrConflict)
		same(t, "revision after refusals", must[int64](t)(s.Revision(ctx)), second.Revision)
		audit, _, err := s.AuditEntries(ctx, registry.AuditQuery{})
		noErr(t, "audit", err)
		same(t, "audit entries after refusals", len(audit), 2)
		_, err = s.App(ctx, "other")
		wantErr(t, "an app that is not there", err, registry.ErrNotFound)
	})
}

func TestPutAppLosesNoUpdate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		app := testApp("app1")
		app.Name = "0"
		put(t, s, app)
		const writers = 50
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for {
					rec, err := s.App(ctx, "app1")
					if err != nil {
						t.Error(err)
						return
					}
					n, err := strconv.Atoi(rec.App.Name)
					if err != nil {
						t.Error(err)
						return
					}
					rec.App.Name = strconv.Itoa(n + 1)
					_, _, err = s.PutApp(ctx, rec.App, rec.Revision, nil, kim, "app.patch")
					if err == nil {
						return
					}
					if !errors.Is(err, registry.ErrConflict) {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		rec := must[registry.AppRecord](t)(s.App(ctx, "app1"))
		same(t, "increments", rec.App.Name, strconv.Itoa(writers))
		same(t, "revision", must[int64](t)(s.Revision(ctx)), rec.Revision)
	})
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		_, err := s.Secrets(ctx, "app1")
		wantErr(t, "secrets of nobody", err, registry.ErrNotFound)
		w := registry.WebhookSecrets{Current: secret.New("whsec_current"), Replaced: []registry.ReplacedSecret{
			{Secret: secret.New("whsec_old"), Until: t0}, {Secret: secret.New("whsec_older"), Until: t0.Add(-time.Hour)},
		}}
		_, _, err = s.PutApp(ctx, testApp("app1"), registry.NoRevision, &w, kim, "app.put")
		noErr(t, "put", err)
		same(t, "secrets", must[registry.WebhookSecrets](t)(s.Secrets(ctx, "app1")), w)
		put(t, s, testApp("app1"))
		same(t, "kept secrets", must[registry.WebhookSecrets](t)(s.Secrets(ctx, "app1")), w)
		next := registry.WebhookSecrets{Current: secret.New("whsec_next")}
		_, _, err = s.PutApp(ctx, testApp("app1"), registry.AnyRevision, &next, kim, "secret.rotate")
		noErr(t, "rotate", err)
		same(t, "rotated secrets", must[registry.WebhookSecrets](t)(s.Secrets(ctx, "app1")), next)
		wantNowhere(t, s.rdb, "whsec_")

		stored := s.rdb.HGet(ctx, s.keys.Config(keys.ConfigSecrets), "app1").Val()
		s.rdb.HSet(ctx, s.keys.Config(keys.ConfigSecrets), "app2", stored)
		_, err = s.Secrets(ctx, "app2")
		wantErr(t, "secrets moved to another app", err, registry.ErrUnreadable)
		_, err = s.DeleteApp(ctx, "app1", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		_, err = s.Secrets(ctx, "app1")
		wantErr(t, "secrets of a deleted app", err, registry.ErrNotFound)
	})
}

// wantNowhere looks for a text in every value of the database.
func wantNowhere(t *testing.T, rdb redis.UniversalClient, text string) {
	t.Helper()
	for _, k := range rdb.Keys(t.Context(), "*").Val() {
		var all string
		switch rdb.Type(t.Context(), k).Val() {
		case "string":
			all = rdb.Get(t.Context(), k).Val()
		case "hash":
			all = fmt.Sprint(rdb.HGetAll(t.Context(), k).Val())
		case "list":
			all = fmt.Sprint(rdb.LRange(t.Context(), k, 0, -1).Val())
		case "stream":
			all = fmt.Sprint(rdb.XRange(t.Context(), k, "-", "+").Val())
		case "zset":
			all = fmt.Sprint(rdb.ZRange(t.Context(), k, 0, -1).Val())
		}
		if strings.Contains(all, text) {
			t.Errorf("%s holds %q in the clear", k, text)
		}
	}
}

func TestSecretsOfABrokenSealer(t *testing.T) {
	t.Parallel()
	broken := errors.New("no entropy")
	w := registry.WebhookSecrets{Current: secret.New("whsec_current")}
	s := newFixture(t, redistest.Mini(t), registry.Options{Keyring: fakeSealer{sealErr: broken}})
	_, _, err := s.PutApp(t.Context(), testApp("app1"), registry.AnyRevision, &w, kim, "app.put")
	wantErr(t, "seal", err, broken)
	_, err = s.App(t.Context(), "app1")
	wantErr(t, "an app whose secrets could not be sealed", err, registry.ErrNotFound)

	s = newFixture(t, redistest.Mini(t), registry.Options{Keyring: fakeSealer{openErr: broken}})
	_, _, err = s.PutApp(t.Context(), testApp("app1"), registry.AnyRevision, &w, kim, "app.put")
	noErr(t, "put", err)
	_, err = s.Secrets(t.Context(), "app1")
	wantErr(t, "open", err, registry.ErrUnreadable)
	wantErr(t, "open", err, broken)

	s = newFixture(t, redistest.Mini(t), registry.Options{Keyring: fakeSealer{}})
	for _, plain := range []string{"", "{", `{"v":2,"c":"whsec_x"}`, `{"v":1}`, `{"v":1,"c":5}`} {
		s.rdb.HSet(t.Context(), s.keys.Config(keys.ConfigSecrets), "app1", "app/app1/webhook_secret|"+plain)
		_, err = s.Secrets(t.Context(), "app1")
		wantErr(t, plain, err, registry.ErrUnreadable)
		if strings.Contains(err.Error(), "whsec_") {
			t.Errorf("the error shows the plaintext: %v", err)
		}
	}
}

func TestNewNeedsAKeyring(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("New took no Keyring")
		}
	}()
	registry.New(nil, registry.Options{})
}

func TestDeleteApp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		_, err := s.DeleteApp(ctx, "app1", registry.AnyRevision, kim)
		wantErr(t, "an app that is not there", err, registry.ErrNotFound)
		first, second := put(t, s, testApp("app1")), put(t, s, testApp("app2"))
		_, err = s.DeleteApp(ctx, "app1", second.Revision, kim)
		wantErr(t, "a stale revision", err, registry.ErrConflict)
		rev, err := s.DeleteApp(ctx, "app1", first.Revision, kim)
		noErr(t, "delete", err)
		if rev <= second.Revision {
			t.Errorf("deleted at revision %d, which is not after %d", rev, second.Revision)
		}
		_, err = s.App(ctx, "app1")
		wantErr(t, "a deleted app", err, registry.ErrNotFound)
		recs, _, err := s.Apps(ctx, "", 10)
		noErr(t, "list", err)
		same(t, "listed", ids(recs), []string{"app2"})
		rec, created, err := s.PutApp(ctx, testApp("app1"), registry.NoRevision, nil, kim, "app.put")
		noErr(t, "create again", err)
		if !created || rec.Revision <= rev {
			t.Errorf("created, revision = %v, %d, want true and more than %d", created, rec.Revision, rev)
		}
	})
}

func ids(recs []registry.AppRecord) []string {
	var out []string
	for _, r := range recs {
		out = append(out, string(r.App.ClientID))
	}
	return out
}

func TestAppsPages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		recs, next, err := s.Apps(ctx, "", 0)
		if err != nil || next != "" || len(recs) != 0 {
			t.Errorf("no apps: %v, %q, %v", recs, next, err)
		}
		for _, id := range []string{"b", "B", "a.1", "a-1", "a", "c", "aa"} {
			put(t, s, testApp(id))
		}
		want := []string{"B", "a", "a-1", "a.1", "aa", "b", "c"}
		for limit := 1; limit <= len(want)+1; limit++ {
			var got []string
			pages := 0
			for after := partner.ClientID(""); ; after = next {
				if recs, next, err = s.Apps(ctx, after, limit); err != nil {
					t.Fatal(err)
				}
				got = append(got, ids(recs)...)
				if pages++; next == "" {
					break
				}
			}
			same(t, fmt.Sprintf("pages of %d", limit), got, want)
			if most := (len(want) + limit - 1) / limit; pages != most {
				t.Errorf("%d pages of %d, want %d", pages, limit, most)
			}
		}
		_, next, err = s.Apps(ctx, "", 2)
		noErr(t, "first page", err)
		put(t, s, testApp("A"))
		_, err = s.DeleteApp(ctx, "a", registry.AnyRevision, kim)
		noErr(t, "delete the app the cursor names", err)
		recs, _, err = s.Apps(ctx, next, 2)
		noErr(t, "second page", err)
		same(t, "second page after writes", ids(recs), []string{"a-1", "a.1"})
	})
}

func TestChangedSince(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		check := func(since int64, wantChanged, wantRemoved []string, wantNewest int64) {
			t.Helper()
			changed, removed, newest, err := s.ChangedSince(ctx, since)
			noErr(t, "changed since", err)
			same(t, fmt.Sprintf("changed since %d", since), ids(changed), wantChanged)
			var gone []string
			for _, id := range removed {
				gone = append(gone, string(id))
			}
			same(t, fmt.Sprintf("removed since %d", since), gone, wantRemoved)
			same(t, fmt.Sprintf("newest since %d", since), newest, wantNewest)
		}
		check(0, nil, nil, 0)
		put(t, s, testApp("app1"))
		second, third := put(t, s, testApp("app2")).Revision, put(t, s, testApp("app1")).Revision
		check(0, []string{"app2", "app1"}, nil, third)
		check(second, []string{"app1"}, nil, third)
		check(third, nil, nil, third)
		fourth, err := s.DeleteApp(ctx, "app2", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		check(second, []string{"app1"}, []string{"app2"}, fourth)
		check(third, nil, []string{"app2"}, fourth)
		fifth := put(t, s, testApp("app2")).Revision
		check(third, []string{"app2"}, nil, fifth)
		_, _, _, err = s.ChangedSince(ctx, fifth-1_000_000)
		wantErr(t, "since a revision that was never given out", err, registry.ErrTooOld)
		noErr(t, "data of a version that kept no history", s.rdb.Del(ctx, s.keys.Config(keys.ConfigHistory)).Err())
		check(fourth, []string{"app2"}, nil, fifth)
	})
}

func TestChangedSinceReadsManyPages(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		var want []string
		var last registry.AppRecord
		for i := range 1100 {
			want = append(want, fmt.Sprintf("app%04d", i))
			last = put(t, s, partner.New(partner.ClientID(want[i])))
		}
		changed, _, newest, err := s.ChangedSince(t.Context(), 0)
		noErr(t, "changed since 0", err)
		same(t, "apps", ids(changed), want)
		same(t, "newest", newest, last.Revision)
	})
}

// Whoever begins with nothing hears of what is removed after its first page, and of no removal before.
func TestChangedSinceNothingWhileAppsGo(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		for i := range 510 {
			put(t, s, partner.New(partner.ClientID(fmt.Sprintf("app%04d", i))))
		}
		must[int64](t)(s.DeleteApp(ctx, "app0003", registry.AnyRevision, kim))
		pages, inside := 0, false
		s.rdb.AddHook(&beforeScripts{do: func(bool) {
			if pages++; pages == 2 && !inside {
				inside = true
				must[int64](t)(s.DeleteApp(ctx, "app0005", registry.AnyRevision, kim))
				must[int64](t)(s.DeleteApp(ctx, "app0507", registry.AnyRevision, kim))
			}
		}})
		changed, gone, newest, err := s.ChangedSince(ctx, 0)
		noErr(t, "changed since 0", err)
		same(t, "apps", len(changed), 507)
		same(t, "gone", gone, []partner.ClientID{"app0005", "app0507"})
		same(t, "newest", newest, must[int64](t)(s.Revision(ctx)))
	})
}

// A reader who slept through more removals than are remembered must start anew.
func TestChangedSinceTooOld(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		put(t, s, testApp("app1"))
		removed := make([]redis.Z, 4000)
		for i := range removed {
			removed[i] = redis.Z{Score: float64(i + 100), Member: fmt.Sprintf("gone%d", i)}
		}
		s.rdb.ZAdd(ctx, s.keys.Config(keys.ConfigRemoved), removed...)
		s.rdb.Set(ctx, s.keys.Config(keys.ConfigRevision), "20000", 0)
		s.rdb.Del(ctx, s.keys.Config(keys.ConfigHistory))
		_, _, _, err := s.ChangedSince(ctx, 99)
		wantErr(t, "before the oldest removal", err, registry.ErrTooOld)
		_, _, _, err = s.ChangedSince(ctx, 3098)
		wantErr(t, "before too many removals", err, registry.ErrTooOld)
		_, gone, _, err := s.ChangedSince(ctx, 3099)
		noErr(t, "at as many as one learns", err)
		same(t, "removals", len(gone), 1000)
		_, gone, _, err = s.ChangedSince(ctx, 0)
		noErr(t, "a first read", err)
		same(t, "removals that concern one who knows nothing", len(gone), 0)
		_, err = s.DeleteApp(ctx, "app1", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		same(t, "removals kept", s.rdb.ZCard(ctx, s.keys.Config(keys.ConfigRemoved)).Val(), int64(4000))
	})
}

func TestUnreadableApps(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		apps := s.keys.Config(keys.ConfigApps)
		good := put(t, s, testApp("app1"))
		stored := s.rdb.HGet(ctx, apps, "app1").Val()
		for name, v := range map[string]string{
			"Empty": "", "NoRevision": `{"v":1,"client_id":"app1"}`, "NegativeRevision": `-1;{"v":1,"client_id":"app1"}`,
			"NewerFormat": strings.Replace(stored, `"v":1`, `"v":2`, 1), "NoFormat": `1;{"client_id":"app1"}`,
			"NotJSON": `1;hello`, "Truncated": stored[:len(stored)-5], "OtherApp": strings.Replace(stored, `"app1"`, `"app2"`, 1),
			"WrongShape": `1;{"v":1,"client_id":"app1","endpoints":"none"}`, "HugeRevision": `99999999999999999999;{"v":1}`,
		} {
			s.rdb.HSet(ctx, apps, "app1", v)
			_, err := s.App(ctx, "app1")
			wantErr(t, name+": App", err, registry.ErrUnreadable)
			_, _, err = s.Apps(ctx, "", 10)
			wantErr(t, name+": Apps", err, registry.ErrUnreadable)
			_, _, _, err = s.ChangedSince(ctx, 0)
			wantErr(t, name+": ChangedSince", err, registry.ErrUnreadable)
		}
		newer := strings.Replace(stored, `"v":1`, `"v":2`, 1)
		s.rdb.HSet(ctx, apps, "app1", newer)
		for _, expect := range []int64{registry.AnyRevision, registry.NoRevision, good.Revision} {
			_, _, err := s.PutApp(ctx, testApp("app1"), expect, nil, kim, "app.put")
			wantErr(t, "overwrite a newer format", err, registry.ErrUnreadable)
		}
		_, err := s.DeleteApp(ctx, "app1", good.Revision, kim)
		wantErr(t, "delete a newer format by revision", err, registry.ErrUnreadable)
		same(t, "what was stored", s.rdb.HGet(ctx, apps, "app1").Val(), newer)
		_, err = s.DeleteApp(ctx, "app1", registry.AnyRevision, kim)
		noErr(t, "delete a newer format whatever it is", err)

		s.rdb.Del(ctx, apps)
		s.rdb.Set(ctx, apps, "another type", 0)
		_, err = s.App(ctx, "app1")
		wantErr(t, "a key of another type", err, registry.ErrUnreadable)
		s.rdb.Set(ctx, s.keys.Config(keys.ConfigRevision), "many", 0)
		_, err = s.Revision(ctx)
		if err == nil {
			t.Error("a revision that is no number was read")
		}
	})
}

// A cancelled context and a closed client give errors of their own, never ErrNotFound.
func TestAppsWithoutRedis(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	s := newFixture(t, rdb, registry.Options{})
	_ = rdb.Close()
	_, err := s.App(t.Context(), "app1")
	if err == nil || errors.Is(err, registry.ErrNotFound) || errors.Is(err, registry.ErrUnreadable) {
		t.Errorf("App: %v", err)
	}
	if _, _, err := s.PutApp(t.Context(), testApp("app1"), registry.AnyRevision, nil, kim, "app.put"); err == nil {
		t.Error("PutApp succeeded")
	}
	if _, err := s.Revision(t.Context()); err == nil {
		t.Error("Revision succeeded")
	}
}
