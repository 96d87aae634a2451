package registry_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/registry"
)

// integrated is an app with an ERP sync that is on or off.
func integrated(id string, on bool) partner.App {
	a := testApp(id)
	a.Endpoints[partner.ERPSync] = partner.Endpoint{URL: "https://erp.example/" + id, Enabled: on}
	return a
}

func (s fixture) revision(t *testing.T, seen int64) int64 {
	t.Helper()
	return must[int64](t)(s.FeedRevision(t.Context(), seen))
}

func since(t *testing.T, s fixture, after int64) registry.FeedDelta {
	t.Helper()
	return must[registry.FeedDelta](t)(s.FeedSince(t.Context(), after))
}

func TestFeedGrowsOnlyWithWhatEnginesSee(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		put(t, s, testApp("app1"))
		same(t, "an app without integration endpoints", s.revision(t, 0), int64(0))
		put(t, s, integrated("app1", false))
		first := s.revision(t, 0)
		if first < 1_700_000_000_000 {
			t.Fatalf("revision %d is not of Redis' clock", first)
		}
		for what, change := range map[string]func(*partner.App){
			"name":         func(a *partner.App) { a.Name = "B" },
			"contact":      func(a *partner.App) { a.TechnicalContact.Email = "b@example.com" },
			"state change": func(a *partner.App) { a.Endpoints[partner.StateChange].Enabled = false },
			"mails":        func(a *partner.App) { a.Endpoints[partner.ERPSync].SendErrorEmails = true },
			"pause":        func(a *partner.App) { a.Paused = true },
		} {
			a := integrated("app1", false)
			change(&a)
			put(t, s, a)
			same(t, what, s.revision(t, first), first)
		}
		last := first
		for what, change := range map[string]func(*partner.App){
			"switch": func(a *partner.App) { a.Endpoints[partner.ERPSync].Enabled = true },
			"url":    func(a *partner.App) { a.Endpoints[partner.ERPSync].URL = "https://erp.example/new" },
			"override": func(a *partner.App) {
				a.Endpoints[partner.ERPSync].URLs = map[partner.Environment]string{partner.Stage: "https://s.example/"}
			},
			"licence": func(a *partner.App) { a.GrantedLicenses = []partner.License{partner.IntegrationServer} },
			"another": func(a *partner.App) { a.Endpoints[partner.Mirroring].Enabled = true },
		} {
			a := integrated("app1", false)
			change(&a)
			put(t, s, a)
			next := s.revision(t, last)
			if next <= last {
				t.Errorf("%s: revision %d after %d", what, next, last)
			}
			same(t, what, since(t, s, last), registry.FeedDelta{Revision: next, Changed: []partner.ClientID{"app1"}})
			last = next
		}
	})
}

func TestFeedTellsRemovals(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		for _, id := range []string{"app1", "app2", "app3"} {
			put(t, s, integrated(id, true))
		}
		put(t, s, testApp("other"))
		known := s.revision(t, 0)
		_, err := s.DeleteApp(t.Context(), "other", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		same(t, "an app that engines never saw", s.revision(t, known), known)
		_, err = s.DeleteApp(t.Context(), "app1", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		put(t, s, testApp("app2"))
		d := since(t, s, known)
		same(t, "removed", d, registry.FeedDelta{Revision: s.revision(t, 0), Removed: []partner.ClientID{"app1", "app2"}})
		put(t, s, integrated("app1", true))
		same(t, "come back", since(t, s, d.Revision).Changed, []partner.ClientID{"app1"})
		same(t, "and removed no more", since(t, s, known).Removed, []partner.ClientID{"app2"})
		same(t, "nothing since", since(t, s, s.revision(t, 0)), registry.FeedDelta{Revision: s.revision(t, 0)})
	})
}

func TestFeedThatIsTooOld(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		put(t, s, integrated("app1", true))
		known := s.revision(t, 0)
		removed := s.keys.Config(keys.ConfigFeedRemoved)
		var gone []redis.Z
		for i := range 1000 {
			gone = append(gone, redis.Z{Score: float64(known + 5), Member: fmt.Sprint("gone", i)})
		}
		noErr(t, "fill", s.rdb.ZAdd(t.Context(), removed, gone...).Err())
		for _, r := range []int64{known + 5, known + 6} { // as if each was given out
			noErr(t, "give out", s.rdb.ZAdd(t.Context(), s.keys.Config(keys.ConfigFeedHistory), redis.Z{Score: float64(r), Member: r}).Err())
		}
		_, err := s.FeedSince(t.Context(), known)
		noErr(t, "as many as a delta holds", err)
		_, err = s.DeleteApp(t.Context(), "app1", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		_, err = s.FeedSince(t.Context(), known)
		wantErr(t, "one more", err, registry.ErrTooOld)
		_, err = s.FeedSince(t.Context(), known+5)
		noErr(t, "the last one alone", err)
		for i := range 9000 {
			gone = append(gone, redis.Z{Score: float64(known + 5), Member: fmt.Sprint("more", i)})
		}
		noErr(t, "fill", s.rdb.ZAdd(t.Context(), removed, gone...).Err())
		put(t, s, integrated("app2", true))
		put(t, s, testApp("app2"))
		same(t, "removals kept", s.rdb.ZCard(t.Context(), removed).Val(), int64(4000))
		changed := make([]redis.Z, 1001)
		for i := range changed {
			changed[i] = redis.Z{Score: float64(known + int64(i) + 6), Member: fmt.Sprint("app", i)}
		}
		noErr(t, "fill", s.rdb.ZAdd(t.Context(), s.keys.Config(keys.ConfigFeedChanged), changed...).Err())
		d, err := s.FeedSince(t.Context(), known+5)
		wantErr(t, "more than a delta holds", err, registry.ErrTooOld)
		same(t, "revision all the same", d.Revision, s.revision(t, 0))
		d = must[registry.FeedDelta](t)(s.FeedSince(t.Context(), known+6))
		same(t, "as much as it holds", len(d.Changed), 1000)
	})
}

// Redis forgets a revision that was told, and gives out a higher one before anybody notices: what the lost
// one stood for must not be built on.
func TestFeedOfALostHistory(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		put(t, s, integrated("app1", true))
		kept := s.revision(t, 0)
		put(t, s, integrated("app2", true))
		told := s.revision(t, 0)
		for key, member := range map[keys.ConfigKey]any{keys.ConfigFeedHistory: told, keys.ConfigFeedChanged: "app2"} {
			noErr(t, "lose", s.rdb.ZRem(t.Context(), s.keys.Config(key), member).Err())
		}
		noErr(t, "lose", s.rdb.HSet(t.Context(), s.keys.Config(keys.ConfigFeed), "revision", kept).Err())
		put(t, s, integrated("app3", true))
		if next := s.revision(t, 0); next < told {
			t.Fatalf("revision %d after %d", next, told)
		} else if next == told { // within one millisecond of it: numbers cannot tell
			return
		}
		_, err := s.FeedSince(t.Context(), told)
		wantErr(t, "since a lost revision", err, registry.ErrTooOld)
		same(t, "since one that is kept", since(t, s, kept).Changed, []partner.ClientID{"app3"})
		noErr(t, "before histories were kept", s.rdb.Del(t.Context(), s.keys.Config(keys.ConfigFeedHistory)).Err())
		known := s.revision(t, 0)
		put(t, s, integrated("app4", true))
		same(t, "the last one before", since(t, s, known).Changed, []partner.ClientID{"app4"})
	})
}

// Redis forgets a revision that was told: what was told since must not be built on.
func TestFeedAfterLostWrites(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		put(t, s, integrated("app1", true))
		known := s.revision(t, 0)
		told := known + 1_000_000 // Redis' clock is not there yet
		healed := s.revision(t, told)
		if healed <= told {
			t.Fatalf("revision %d after %d was told", healed, told)
		}
		same(t, "once", s.revision(t, told), healed)
		for _, after := range []int64{0, known, told} {
			_, err := s.FeedSince(t.Context(), after)
			wantErr(t, fmt.Sprint("since ", after), err, registry.ErrTooOld)
		}
		same(t, "from the new one on", since(t, s, healed), registry.FeedDelta{Revision: healed})
		put(t, s, integrated("app1", false))
		if next := s.revision(t, healed); next <= healed {
			t.Errorf("revision %d after %d", next, healed)
		}
		noErr(t, "spoil", s.rdb.HSet(t.Context(), s.keys.Config(keys.ConfigFeed), "revision", "x").Err())
		_, err := s.FeedRevision(t.Context(), 0)
		wantErr(t, "a revision that is no number", err, registry.ErrUnreadable)
		_, err = s.FeedSince(t.Context(), 0)
		wantErr(t, "a revision that is no number", err, registry.ErrUnreadable)
	})
}
