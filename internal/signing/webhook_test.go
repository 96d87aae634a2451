package signing_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/lamplighter/lamplighter/internal/secret"
	"github.com/lamplighter/lamplighter/internal/signing"
)

func webhookKey(t testing.TB, text secret.Text) signing.WebhookKey {
	t.Helper()
	return must(signing.ParseWebhookSecret(text))(t)
}

func TestSignWebhookVector(t *testing.T) {
	t.Parallel()
	k := webhookKey(t, secret.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	got := signing.SignWebhook([]signing.WebhookKey{k}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 999), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature = %s, want %s", got, want)
	}
}

func TestSignWebhookSatisfiesStandardWebhooks(t *testing.T) {
	t.Parallel()
	now := time.Now()
	current, older, foreign := must(signing.NewWebhookSecret(rand.Reader))(t), must(signing.NewWebhookSecret(rand.Reader))(t), must(signing.NewWebhookSecret(rand.Reader))(t)
	keys := []signing.WebhookKey{webhookKey(t, current), {}, webhookKey(t, older)}
	for _, body := range []string{"", `{"ChangeType":2}`, strings.Repeat("ø", 5000)} {
		id := "chg_" + strings.Repeat("0", 200)
		signature := signing.SignWebhook(keys, id, now, []byte(body))
		if strings.Count(signature, "v1,") != 2 || strings.Count(signature, " ") != 1 {
			t.Fatalf("signature = %q", signature)
		}
		headers := http.Header{}
		headers.Set("webhook-id", id)
		headers.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
		headers.Set("webhook-signature", signature)
		for name, tc := range map[string]struct {
			secret secret.Text
			body   string
			good   bool
		}{
			"Current": {current, body, true}, "Older": {older, body, true},
			"Foreign": {foreign, body, false}, "Tampered": {current, body + " ", false},
		} {
			verifier := must(standardwebhooks.NewWebhook(tc.secret.Reveal()))(t)
			if err := verifier.Verify([]byte(tc.body), headers); (err == nil) != tc.good {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if got := signing.SignWebhook(nil, "chg_1", now, nil); got != "" {
		t.Errorf("without keys: %q", got)
	}
}

func TestNewWebhookSecret(t *testing.T) {
	t.Parallel()
	text := must(signing.NewWebhookSecret(strings.NewReader(strings.Repeat("a", 32))))(t)
	if want := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 32))); text.Reveal() != want {
		t.Errorf("secret = %s, want %s", text.Reveal(), want)
	}
	broken := errors.New("no entropy")
	if _, err := signing.NewWebhookSecret(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a failing source gives %v", err)
	}
}

func TestParseWebhookSecretRefuses(t *testing.T) {
	t.Parallel()
	encode := func(n int) string { return base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", n))) }
	for _, n := range []int{24, 64} {
		webhookKey(t, secret.New("whsec_"+encode(n)))
	}
	for name, text := range map[string]string{
		"Empty": "", "NoPrefix": encode(32), "OtherPrefix": "whpk_" + encode(32), "PrefixAlone": "whsec_",
		"Short": "whsec_" + encode(23), "Long": "whsec_" + encode(65), "NotBase64": "whsec_" + strings.Repeat("*", 44),
		"URLBase64": "whsec_" + strings.Repeat("-_", 22),
	} {
		k, err := signing.ParseWebhookSecret(secret.New(text))
		if !errors.Is(err, signing.ErrWebhookSecret) {
			t.Errorf("%s: %v", name, err)
		}
		if encoded := strings.TrimPrefix(text, "whsec_"); err != nil && encoded != "" && strings.Contains(err.Error(), encoded) {
			t.Errorf("%s: repeats the secret: %v", name, err)
		}
		if got := signing.SignWebhook([]signing.WebhookKey{k}, "a", start, nil); got != "" {
			t.Errorf("%s: signs %s", name, got)
		}
	}
}

func TestWebhookKeysNeverPrint(t *testing.T) {
	t.Parallel()
	k := webhookKey(t, secret.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	type endpoint struct{ key signing.WebhookKey }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, k); got != "[redacted]" {
			t.Errorf("%s prints %s", verb, got)
		}
		if got := fmt.Sprintf(verb, endpoint{k}); strings.Contains(got, "31f290f6") || strings.Contains(got, "49 242 144") {
			t.Errorf("%s of a struct prints %s", verb, got)
		}
	}
}

func BenchmarkSignWebhook(b *testing.B) {
	k := webhookKey(b, secret.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	body := []byte(strings.Repeat("x", 400))
	for _, keys := range [][]signing.WebhookKey{{k}, {k, k}} {
		b.Run(strconv.Itoa(len(keys)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				signing.SignWebhook(keys, "chg_0193a0d2c8e07bcd", start, body)
			}
		})
	}
}
