package signing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/secret"
)

const (
	webhookSecretPrefix = "whsec_"
	// signatureVersion is Standard Webhooks' HMAC-SHA256.
	signatureVersion = "v1,"
	// newSecretBytes is the strength of HMAC-SHA256; Standard Webhooks wants 24 to 64 bytes.
	newSecretBytes = 32
	minSecretBytes = 24
	maxSecretBytes = 64
)

// ErrWebhookSecret reports a text that is not a Standard Webhooks secret.
var ErrWebhookSecret = errors.New("a webhook secret is whsec_ followed by 24 to 64 bytes in base64")

// WebhookKey is a parsed webhook secret. It never prints; the zero WebhookKey
// signs nothing. The bytes are in a function, which fmt shows as an address
// even in unexported fields, where it cannot call Format.
type WebhookKey struct{ raw func() []byte }

// Format writes a placeholder, whatever the verb.
func (WebhookKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secret.Mask) }

// NewWebhookSecret makes a secret for an app out of 32 bytes of random.
func NewWebhookSecret(random io.Reader) (secret.Text, error) {
	raw := make([]byte, newSecretBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return secret.Text{}, fmt.Errorf("make webhook secret: %w", err)
	}
	return secret.New(webhookSecretPrefix + base64.StdEncoding.EncodeToString(raw)), nil
}

// ParseWebhookSecret prepares a secret for signing. The error wraps ErrWebhookSecret and contains nothing of the
// secret.
func ParseWebhookSecret(text secret.Text) (WebhookKey, error) {
	encoded, ok := strings.CutPrefix(text.Reveal(), webhookSecretPrefix)
	if !ok {
		return WebhookKey{}, fmt.Errorf("%w: the prefix is missing", ErrWebhookSecret)
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return WebhookKey{}, fmt.Errorf("%w: it is not standard base64", ErrWebhookSecret)
	}
	if len(raw) < minSecretBytes || len(raw) > maxSecretBytes {
		return WebhookKey{}, fmt.Errorf("%w: it has %d bytes", ErrWebhookSecret, len(raw))
	}
	return WebhookKey{raw: func() []byte { return raw }}, nil
}

// SignWebhook returns the value of the webhook-signature header: for each key
// "v1," and the base64 of HMAC-SHA256 over "<id>.<unix seconds>.<body>",
// separated by spaces. Several keys serve while a secret is rotated; the result
// is empty without keys. id and ts must be sent as webhook-id and
// webhook-timestamp, and id must hold no dot.
func SignWebhook(keys []WebhookKey, id string, ts time.Time, body []byte) string {
	const perKey = 1 + len(signatureVersion) + (sha256.Size+2)/3*4
	return string(AppendWebhookSignature(make([]byte, 0, len(keys)*perKey), keys, id, ts, body))
}

// AppendWebhookSignature appends what SignWebhook returns.
func AppendWebhookSignature(b []byte, keys []WebhookKey, id string, ts time.Time, body []byte) []byte {
	var headRoom [96]byte
	head := append(headRoom[:0], id...)
	head = append(head, '.')
	head = strconv.AppendInt(head, ts.Unix(), 10)
	head = append(head, '.')

	before := len(b)
	var sum [sha256.Size]byte
	for _, k := range keys {
		if k.raw == nil {
			continue
		}
		mac := hmac.New(sha256.New, k.raw())
		mac.Write(head)
		mac.Write(body)
		if len(b) > before {
			b = append(b, ' ')
		}
		b = append(b, signatureVersion...)
		b = base64.StdEncoding.AppendEncode(b, mac.Sum(sum[:0]))
	}
	return b
}
