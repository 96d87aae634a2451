package signing_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/signing"
)

// TestTokensOfAClockThatIsOffByAMinute: replicas' clocks may differ by a minute either way, and a
// receiver that allows for none at all still takes their tokens, for a whole request's time.
func TestTokensOfAClockThatIsOffByAMinute(t *testing.T) {
	t.Parallel()
	tokens := must(signing.NewTokenIssuer(must(signing.NewKeySet(keyFor(t, signing.ES256)))(t), "https://issuer.example"))(t)
	truth := start.Add(time.Hour)
	for name, off := range map[string]time.Duration{"Behind": -time.Minute, "Right": 0, "Ahead": time.Minute} {
		token := must(tokens.MakeToken("app1", "Cust1", signing.ES256, truth.Add(off)))(t)
		body := must(base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1]))(t)
		var claims struct{ Nbf, Exp int64 }
		if err := json.Unmarshal(body, &claims); err != nil {
			t.Fatal(err)
		}
		const request = 15 * time.Second // the longest delivery.timeout
		if claims.Nbf > truth.Unix() || claims.Exp <= truth.Add(request).Unix() {
			t.Errorf("%s: valid from %d to %d, it is %d", name, claims.Nbf, claims.Exp, truth.Unix())
		}
	}
}
