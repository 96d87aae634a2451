package registry_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
	"github.com/lamplighter/lamplighter/internal/registry"
	"github.com/lamplighter/lamplighter/internal/secret"
)

func keyOf(t testing.TB, letter string) secret.Key {
	t.Helper()
	k, err := secret.ParseKey(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(letter, 32))))
	noErr(t, "key", err)
	return k
}

// TestReencrypt rotates the encryption key: after sealing anew the old key can go.
func TestReencrypt(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		with := func(ring *secret.Keyring) fixture { return newFixture(t, rdb, registry.Options{Keyring: ring}) }
		s := with(secret.NewKeyring(keyOf(t, "a")))
		for n := range 700 {
			w := registry.WebhookSecrets{Current: secret.New(fmt.Sprint("whsec_", n))}
			_, _, err := s.PutApp(ctx, testApp(fmt.Sprint("app", n)), registry.AnyRevision, &w, kim, "app.put")
			noErr(t, "put", err)
		}
		s = with(secret.NewKeyring(keyOf(t, "b"), keyOf(t, "a")))
		examined, resealed, err := s.Reencrypt(ctx, kim)
		noErr(t, "reencrypt", err)
		if examined < 700 || resealed != 700 {
			t.Errorf("examined %d, sealed %d anew", examined, resealed)
		}
		_, resealed, err = s.Reencrypt(ctx, kim)
		noErr(t, "again", err)
		same(t, "sealed again", resealed, 0)
		s = with(secret.NewKeyring(keyOf(t, "b")))
		for _, n := range []int{0, 350, 699} {
			w := must[registry.WebhookSecrets](t)(s.Secrets(ctx, testApp(fmt.Sprint("app", n)).ClientID))
			same(t, "secret", w.Current.Reveal(), fmt.Sprint("whsec_", n))
		}
		audit, _, err := s.AuditEntries(ctx, registry.AuditQuery{Actions: []string{"secrets."}})
		noErr(t, "audit", err)
		if len(audit) != 1 || audit[0].After != `{"resealed":700}` {
			t.Errorf("audited %+v", audit)
		}
		s.rdb.HSet(ctx, s.keys.Config(keys.ConfigSecrets), "lost", "v1.00000000."+strings.Repeat("A", 50))
		_, _, err = s.Reencrypt(ctx, kim)
		wantErr(t, "a value that no key opens", err, registry.ErrUnreadable)
	})
}

// TestDeleteAppRevokesItsTokens: a former owner's token is not good for an app that is made anew.
func TestDeleteAppRevokesItsTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, s fixture) {
		ctx := t.Context()
		put(t, s, testApp("app1"))
		create(t, s, token("t1", "partner:app1"), "h1", false, true)
		create(t, s, token("t2", "partner:app10"), "h2", false, true)
		s.rdb.HSet(ctx, s.keys.Config(keys.ConfigTokens), "odd", "{")
		_, err := s.DeleteApp(ctx, "app1", registry.AnyRevision, kim)
		noErr(t, "delete", err)
		if must[registry.Token](t)(s.Token(ctx, "t1")).RevokedAt.IsZero() || !must[registry.Token](t)(s.Token(ctx, "t2")).RevokedAt.IsZero() {
			t.Error("not the tokens of the app that is gone were revoked")
		}
		audit, _, err := s.AuditEntries(ctx, registry.AuditQuery{Subject: "t1"})
		noErr(t, "audit", err)
		if len(audit) != 2 || audit[0].Action != "token.revoke" {
			t.Errorf("audited %+v", audit)
		}
	})
}
