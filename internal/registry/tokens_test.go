package registry_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/registry"
)

func token(id, role string) registry.Token {
	return registry.Token{ID: id, Name: `Kim's "laptop" }`, Role: role, CreatedAt: time.Now().UTC().Truncate(time.Millisecond)}
}

func create(t *testing.T, s fixture, tok registry.Token, hash string, onlyIfNone, want bool) {
	t.Helper()
	created, err := s.CreateToken(t.Context(), tok, hash, onlyIfNone, kim)
	noErr(t, "create token "+tok.ID, err)
	if created != want {
		t.Errorf("token %s created: %v, want %v", tok.ID, created, want)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		same(t, "at first", len(must[[]registry.Token](t)(s.Tokens(ctx))), 0)
		_, err := s.TokenByHash(ctx, "h1")
		wantErr(t, "an unknown token", err, registry.ErrNotFound)
		wantErr(t, "revoke an unknown token", s.RevokeToken(ctx, "t1", kim), registry.ErrNotFound)

		one, two := token("t1", "admin"), token("t2", "partner:app1")
		two.ExpiresAt, two.CreatedAt = one.CreatedAt.Add(time.Hour), one.CreatedAt.Add(time.Second)
		create(t, s, two, "h2", false, true)
		create(t, s, one, "h1", false, true)
		create(t, s, one, "h1", false, false)
		_, err = s.CreateToken(ctx, token("t3", "admin"), "h1", false, kim)
		wantErr(t, "the hash of another", err, registry.ErrConflict)
		_, err = s.CreateToken(ctx, token("t1", "admin"), "h3", false, kim)
		wantErr(t, "the id of another", err, registry.ErrConflict)
		same(t, "list", must[[]registry.Token](t)(s.Tokens(ctx)), []registry.Token{one, two})
		same(t, "by hash", must[registry.Token](t)(s.TokenByHash(ctx, "h2")), two)
		if n := s.cmds.during(func() { _, _ = s.TokenByHash(ctx, "h2") }); n != 1 {
			t.Errorf("TokenByHash took %d round trips", n)
		}

		noErr(t, "revoke", s.RevokeToken(ctx, "t1", kim))
		revoked := must[registry.Token](t)(s.TokenByHash(ctx, "h1"))
		same(t, "revoked", revoked, one, cmpopts.IgnoreFields(registry.Token{}, "RevokedAt"))
		if age := time.Since(revoked.RevokedAt); age > time.Minute || age < -time.Minute || revoked.Valid(time.Now()) {
			t.Errorf("revoked at %v", revoked.RevokedAt)
		}
		noErr(t, "revoke again", s.RevokeToken(ctx, "t1", kim))
		same(t, "revoked again", must[registry.Token](t)(s.TokenByHash(ctx, "h1")), revoked)
		same(t, "the other", must[registry.Token](t)(s.TokenByHash(ctx, "h2")), two)
	})
}

func TestTokenValid(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		expires, revoked time.Time
		want             bool
	}{
		"Forever":     {want: true},
		"BeforeEnd":   {expires: t0.Add(1), want: true},
		"AtEnd":       {expires: t0},
		"AfterEnd":    {expires: t0.Add(-1)},
		"Revoked":     {revoked: t0.Add(-time.Hour)},
		"RevokedSoon": {revoked: t0.Add(time.Hour), expires: t0.Add(time.Hour)},
	} {
		if got := (registry.Token{ExpiresAt: tc.expires, RevokedAt: tc.revoked}).Valid(t0); got != tc.want {
			t.Errorf("%s: valid %v, want %v", name, got, tc.want)
		}
	}
}

// The bootstrap token becomes the first of its role once: not twice, and not again after it was
// revoked; another one may, so that nobody is locked out for good.
func TestFirstToken(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		create(t, s, token("p1", "platform"), "hp", false, true)
		var won atomic.Int64
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				created, err := s.CreateToken(t.Context(), token(fmt.Sprint("boot", i), "admin"), fmt.Sprint("hb", i), true, kim)
				if err != nil {
					t.Error(err)
				}
				if created {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		same(t, "first tokens", won.Load(), int64(1))
		first := ""
		for _, tok := range must[[]registry.Token](t)(s.Tokens(t.Context())) {
			noErr(t, "revoke", s.RevokeToken(t.Context(), tok.ID, kim))
			if tok.Role == "admin" {
				first = strings.TrimPrefix(tok.ID, "boot")
			}
		}
		create(t, s, token("boot"+first, "admin"), "hb"+first, true, false)
		ended := token("ended", "admin")
		ended.ExpiresAt = time.Now().Add(-time.Minute)
		create(t, s, ended, "he", true, true)
		create(t, s, token("boot", "admin"), "hb", true, true)
		create(t, s, token("late", "admin"), "hl", true, false)
		create(t, s, token("op", "operator"), "ho", true, true)
		create(t, s, token("op", "operator"), "ho", true, false)
		create(t, s, token("second", "admin"), "hs", false, true)
	})
}

func TestTokensThatEndedLongAgoAreForgotten(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		long, lately := time.Now().Add(-91*24*time.Hour), time.Now().Add(-89*24*time.Hour)
		add := func(id, role string, expires, revoked time.Time) {
			tok := token(id, role)
			tok.ExpiresAt, tok.RevokedAt = expires, revoked
			create(t, s, tok, "h-"+id, false, true)
		}
		add("only-platform", "platform", long, time.Time{})
		add("lately", "admin", lately, time.Time{})
		add("forever", "admin", time.Time{}, time.Time{})
		add("expired", "admin", long, time.Time{})
		add("revoked", "admin", time.Now().Add(time.Hour), long)
		add("new", "operator", time.Time{}, time.Time{})
		var got []string
		for _, tok := range must[[]registry.Token](t)(s.Tokens(ctx)) {
			got = append(got, tok.ID)
		}
		same(t, "listed", got, []string{"only-platform", "lately", "forever", "new"}, cmpopts.SortSlices(strings.Compare))
		_, err := s.TokenByHash(ctx, "h-expired")
		wantErr(t, "a forgotten token", err, registry.ErrNotFound)
		same(t, "hashes", s.rdb.HLen(ctx, s.keys.Config(keys.ConfigTokenHashes)).Val(), int64(4))
	})
}

func TestUnreadableTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		tokens := s.keys.Config(keys.ConfigTokens)
		create(t, s, token("t1", "admin"), "h1", false, true)
		for _, doc := range []string{"", "x", "[]", `{"v":2,"id":"t1","role":"admin","r":0}`, `{"v":1,"id":"t1","r":"0"}`, `{"v":1,"id":"","role":"admin","c":0,"e":0}`} {
			s.rdb.HSet(ctx, tokens, "t1", doc)
			_, err := s.TokenByHash(ctx, "h1")
			wantErr(t, "TokenByHash "+doc, err, registry.ErrUnreadable)
			_, err = s.Tokens(ctx)
			wantErr(t, "Tokens "+doc, err, registry.ErrUnreadable)
			wantErr(t, "RevokeToken "+doc, s.RevokeToken(ctx, "t1", kim), registry.ErrUnreadable)
			same(t, "stored", s.rdb.HGet(ctx, tokens, "t1").Val(), doc)
		}
		s.rdb.HSet(ctx, tokens, "t1", `{"v":2}`)
		_, err := s.CreateToken(ctx, token("t2", "admin"), "h2", true, kim)
		wantErr(t, "a first token beside one that cannot be read", err, registry.ErrUnreadable)
		create(t, s, token("t2", "admin"), "h2", false, true)
		s.rdb.HDel(ctx, tokens, "t1")
		_, err = s.TokenByHash(ctx, "h1")
		wantErr(t, "a hash without token", err, registry.ErrNotFound)
	})
}

func TestTokenUses(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		_, err := s.Token(ctx, "t1")
		wantErr(t, "an unknown token", err, registry.ErrNotFound)
		tok := token("t1", "admin")
		tok.Prefix = "lmp_abcdef"
		create(t, s, tok, "h1", false, true)
		same(t, "unused", must[registry.Token](t)(s.Token(ctx, "t1")), tok)
		noErr(t, "use", s.RecordTokenUse(ctx, "t1", t0))
		noErr(t, "use", s.RecordTokenUse(ctx, "t1", t0.Add(time.Minute)))
		tok.LastUsedAt = t0.Add(time.Minute)
		same(t, "used", must[registry.Token](t)(s.Token(ctx, "t1")), tok)
		same(t, "listed", must[[]registry.Token](t)(s.Tokens(ctx)), []registry.Token{tok})
		s.rdb.HSet(ctx, s.keys.Config(keys.ConfigTokenUses), "t1", "x")
		same(t, "unreadable", must[registry.Token](t)(s.Token(ctx, "t1")).LastUsedAt, time.Time{})
	})
}

func TestTokensAreAudited(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		tok := token("t1", "partner:app1")
		tok.Name, tok.Prefix = "Kim", "lmp_abcdef"
		create(t, s, tok, "h1", false, true)
		create(t, s, tok, "h1", false, false)
		noErr(t, "revoke", s.RevokeToken(ctx, "t1", kim))
		noErr(t, "revoke again", s.RevokeToken(ctx, "t1", kim))
		got, _, err := s.AuditEntries(ctx, registry.AuditQuery{})
		noErr(t, "audit", err)
		words := `{"name":"Kim","role":"partner:app1","prefix":"lmp_abcdef"}`
		same(t, "audit", got, []registry.AuditEntry{
			{Actor: "kim", Role: "operator", RequestID: "req-1", Action: "token.revoke", Subject: "t1", Before: words},
			{Actor: "kim", Role: "operator", RequestID: "req-1", Action: "token.create", Subject: "t1", After: words},
		}, cmpopts.IgnoreFields(registry.AuditEntry{}, "ID", "At"))
	})
}

// TestTooManyTokens: those that ended long ago make room, others do not.
func TestTooManyTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		ended := time.Now().Add(-91 * 24 * time.Hour).UnixMilli()
		many := map[string]any{"old1": fmt.Sprintf(`{"v":1,"id":"old1","role":"admin","c":0,"e":%d,"r":0}`, ended)}
		for n := range 9999 {
			id := fmt.Sprint("n", n)
			many[id] = fmt.Sprintf(`{"v":1,"id":%q,"name":"","role":"admin","c":0,"e":0,"r":0}`, id)
		}
		noErr(t, "fill", s.rdb.HSet(ctx, s.keys.Config(keys.ConfigTokens), many).Err())
		create(t, s, token("last", "admin"), "hl", false, true)
		_, err := s.CreateToken(ctx, token("late", "admin"), "hx", false, kim)
		wantErr(t, "one too many", err, registry.ErrTooMany)
		same(t, "kept", s.rdb.HLen(ctx, s.keys.Config(keys.ConfigTokens)).Val(), int64(10000))
	})
}

// What an older version does: it adds a token without noting it as its role's last. What looked before does not know of it.
func addAsOlder(t *testing.T, s fixture, id, role string) {
	t.Helper()
	doc := fmt.Sprintf(`{"v":1,"id":%q,"name":"","role":%q,"c":1,"e":0,"r":0}`, id, role)
	noErr(t, "add", s.rdb.HSet(t.Context(), s.keys.Config(keys.ConfigTokens), id, doc).Err())
	noErr(t, "add", s.rdb.HSet(t.Context(), s.keys.Config(keys.ConfigTokenHashes), "h-"+id, id).Err())
}

// A deletion revokes all tokens of the app's partner, however many there are and whoever made them, and no others.
func TestDeletionRevokesAllTokensOfThePartner(t *testing.T) {
	t.Parallel()
	for name, many := range map[string]int{"Few": 3, "AsManyAsAStepTakes": 200, "Many": 1500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, s fixture) {
				put(t, s, testApp("app1"))
				put(t, s, testApp("app2"))
				for i := range many - 1 {
					addAsOlder(t, s, fmt.Sprint("older", i), "partner:app1")
				}
				create(t, s, token("newer", "partner:app1"), "hn", false, true)
				create(t, s, token("other", "partner:app2"), "ho", false, true)
				if many > 200 {
					_, err := s.DeleteApp(t.Context(), "app1", 5, kim)
					wantErr(t, "another revision", err, registry.ErrConflict)
					same(t, "good although the app stays", must[registry.Token](t)(s.Token(t.Context(), "newer")).Valid(t0), true)
				}
				must[int64](t)(s.DeleteApp(t.Context(), "app1", registry.AnyRevision, kim))
				for _, tok := range must[[]registry.Token](t)(s.Tokens(t.Context())) {
					if tok.RevokedAt.IsZero() != (tok.ID == "other") {
						t.Errorf("%s revoked at %v", tok.ID, tok.RevokedAt)
					}
				}
				same(t, "the role's last", s.rdb.HExists(t.Context(), s.keys.Config(keys.ConfigTokenLast), "partner:app1").Val(), false)
				entries, _, err := s.AuditEntries(t.Context(), registry.AuditQuery{Limit: 500})
				noErr(t, "audit", err)
				revoked := 0
				for _, e := range entries {
					if e.Action == "token.revoke" {
						revoked++
					}
				}
				if want := min(many, 499); revoked < want-2 {
					t.Errorf("%d revocations are audited, want %d or so", revoked, want)
				}
			})
		})
	}
}

// A token of the role that is added while a call looks makes the call look again.
func TestTokensAddedWhileACallLooks(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		put(t, s, testApp("app1"))
		other := registry.New(s.rdb, registry.Options{Keys: s.keys, Keyring: testKeyring(t)})
		added, inside, role := 0, false, "partner:app1"
		s.rdb.AddHook(&beforeScripts{do: func(bool) {
			if added < 2 && !inside {
				added, inside = added+1, true
				id := role + strconv.Itoa(added)
				_, err := other.CreateToken(ctx, token(id, role), "h-"+id, role == "admin", kim)
				noErr(t, "add", err)
				inside = false
			}
		}})
		must[int64](t)(s.DeleteApp(ctx, "app1", registry.AnyRevision, kim))
		for _, tok := range must[[]registry.Token](t)(s.Tokens(ctx)) {
			if tok.RevokedAt.IsZero() {
				t.Errorf("%s is good after its app was deleted", tok.ID)
			}
		}
		same(t, "added meanwhile", added, 2)
		added, role = 0, "admin"
		create(t, s, token("ours", "admin"), "hu", true, false)
	})
}
