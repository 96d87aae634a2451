package service_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lamplighter/lamplighter/internal/keys"
	"github.com/lamplighter/lamplighter/internal/redistest"
)

// TestRevokedTokenStopsOnEveryReplica revokes a token at one replica while it is in use at
// another, and measures how long it goes on being good there.
func TestRevokedTokenStopsOnEveryReplica(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		cfg := settings(t)
		bases := []string{"http://" + serve(t, rdb, cfg).Addr("api"), "http://" + serve(t, rdb, cfg).Addr("api")}
		ask := func(base, method, path, bearer, body string) (int, string) {
			req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+bearer)
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, string(b)
		}
		code, text := ask(bases[0], "POST", "/v1/tokens", token, `{"name":"Kim","role":"operator"}`)
		var made struct{ ID, Token string }
		if err := json.Unmarshal([]byte(text), &made); code != http.StatusCreated || err != nil {
			t.Fatalf("create = %d %s", code, text)
		}
		for _, base := range bases {
			for range 20 { // long enough in use that any cache would be warm
				if code, text := ask(base, "GET", "/v1/apps", made.Token, ""); code != http.StatusOK {
					t.Fatalf("in use = %d %s", code, text)
				}
			}
		}
		if code, text := ask(bases[0], "DELETE", "/v1/tokens/"+made.ID, token, ""); code != http.StatusNoContent {
			t.Fatalf("revoke = %d %s", code, text)
		}
		revoked := time.Now()
		for i, base := range bases {
			code, text := ask(base, "GET", "/v1/apps", made.Token, "")
			if code != http.StatusUnauthorized {
				t.Errorf("replica %d answers %d %v after the revocation: %s", i, code, time.Since(revoked), text)
			}
		}
		t.Logf("two replicas refused it %v after the revocation was answered", time.Since(revoked))
		if _, text := ask(bases[1], "GET", "/v1/tokens/"+made.ID, token, ""); !strings.Contains(text, `"state":"revoked"`) || !strings.Contains(text, `"last_used_at"`) {
			t.Errorf("the other replica lists it as %s", text)
		}
	})
}

// TestAnAppMadeAnewShowsNothingOfItsPredecessor: neither deliveries nor a former owner's token.
func TestAnAppMadeAnewShowsNothingOfItsPredecessor(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.change("suspend", http.StatusNoContent, "delivered")
	probes := keys.New("").App("app1", keys.AppProbes)
	if err := r.rdb.HSet(t.Context(), probes, "erp_sync", "1;1;1;x;").Err(); err != nil {
		t.Fatal(err)
	}
	r.call("DELETE", "/v1/apps/app1", "")
	if n := r.rdb.Exists(t.Context(), probes).Val(); n != 0 {
		t.Error("what probes found outlives the app")
	}
	r.call("PUT", "/v1/apps/app1", `{"name":"New owner"}`)
	if got := r.items("/v1/apps/app1/deliveries"); len(got) != 0 {
		t.Errorf("the new app shows %v", got)
	}
}

// An endpoint whose URL was corrected is not left alone until its old failure's next probe is due.
func TestANewURLIsProbedAnew(t *testing.T) {
	t.Parallel()
	r := start(t)
	probes := keys.New("").App("app1", keys.AppProbes)
	known := func() []string {
		t.Helper()
		found, err := r.rdb.HKeys(t.Context(), probes).Result()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(found)
		return found
	}
	r.call("PATCH", "/v1/apps/app1/endpoints/erp_sync", `{"url":"`+r.hook+`"}`)
	for _, k := range []string{"erp_sync", "quote_connector"} {
		if err := r.rdb.HSet(t.Context(), probes, k, "1;99999999999999;1;x;").Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.call("PATCH", "/v1/apps/app1", `{"name":"Another name"}`)
	if got := known(); len(got) != 2 {
		t.Errorf("after a new name only %v are known", got)
	}
	r.call("PATCH", "/v1/apps/app1/endpoints/erp_sync", `{"url":"`+r.hook+`/other"}`)
	if got := known(); !slices.Equal(got, []string{"quote_connector"}) {
		t.Errorf("after a new URL %v are known", got)
	}
}
