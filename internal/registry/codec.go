package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/secret"
)

// format is the version of the documents that this package stores. Scripts check it at the start of a document, so it is the
// first member of each.
const format = 1

// document is an app as stored, behind "<revision>;".
type document struct {
	Format int `json:"v"`
	partner.App
}

// encodeApp encodes an app's document. HTML characters are not escaped: that would take six bytes for each.
func encodeApp(app partner.App) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(document{Format: format, App: app}); err != nil {
		return "", fmt.Errorf("encode app %s: %w", app.ClientID, err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// decodeApp parses "<revision>;<document>" and the app's life.
func decodeApp(id partner.ClientID, stored, life string) (AppRecord, error) {
	rev, doc, ok := strings.Cut(stored, ";")
	n, err := strconv.ParseInt(rev, 10, 64)
	if !ok || err != nil || n <= 0 {
		return AppRecord{}, fmt.Errorf("%w: app %s has no revision", ErrUnreadable, id)
	}
	var d document
	if err := decodeJSON(doc, &d, &d.Format); err != nil {
		return AppRecord{}, fmt.Errorf("app %s: %w", id, err)
	}
	if d.ClientID != id {
		return AppRecord{}, fmt.Errorf("%w: the document of app %s belongs to another", ErrUnreadable, id)
	}
	rec := AppRecord{App: d.App, Revision: n}
	rec.Birth, rec.EndpointRevision = decodeLife(life, rec)
	return rec, nil
}

// decodeLife parses "<birth>;<digest>;<revision of the endpoint>". A version that knows no births does not write it. An app that
// such a version made has no birth. If such a version wrote the endpoint, the digest differs; then the endpoint may have changed
// with the app's last write.
func decodeLife(life string, rec AppRecord) (birth, endpoint int64) {
	born, rest, _ := strings.Cut(life, ";")
	digest, at, _ := strings.Cut(rest, ";")
	birth, _ = strconv.ParseInt(born, 10, 64)
	endpoint, err := strconv.ParseInt(at, 10, 64)
	if err != nil || digest != rec.App.Endpoints[partner.StateChange].SettingsDigest(rec.App.Paused) {
		endpoint = rec.Revision
	}
	return max(birth, 0), endpoint
}

// decodeJSON decodes a stored document into v and its format into got. The format is checked first: a document of another format
// may not fit v at all.
func decodeJSON(doc string, v any, got *int) error {
	var head struct {
		Format int `json:"v"`
	}
	if err := json.Unmarshal([]byte(doc), &head); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if head.Format != format {
		return fmt.Errorf("%w: format %d, this version reads %d", ErrUnreadable, head.Format, format)
	}
	if err := json.Unmarshal([]byte(doc), v); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	*got = head.Format
	return nil
}

// WebhookSecrets are the keys that sign an app's pushes.
type WebhookSecrets struct {
	// Current is the "whsec_" secret in force.
	Current secret.Text
	// Replaced also sign until their time, the newest first.
	Replaced []ReplacedSecret
}

// ReplacedSecret is a webhook secret that was replaced and still signs for a while.
type ReplacedSecret struct {
	Secret secret.Text
	Until  time.Time
}

// sealedSecrets is the plaintext within a sealed value. Previous is the newest of the replaced ones. Versions that do not know
// Older have only that.
type sealedSecrets struct {
	Format   int           `json:"v"`
	Current  string        `json:"c"`
	Previous string        `json:"p,omitempty"`
	UntilMS  int64         `json:"u,omitempty"`
	Older    []sealedOlder `json:"o,omitempty"`
}

type sealedOlder struct {
	Secret  string `json:"s"`
	UntilMS int64  `json:"u"`
}

func secretAAD(id partner.ClientID) string { return "app/" + string(id) + "/webhook_secret" }

func (s *Store) sealSecrets(id partner.ClientID, w WebhookSecrets) (string, error) {
	p := sealedSecrets{Format: format, Current: w.Current.Reveal()}
	for i, r := range w.Replaced {
		if i == 0 {
			p.Previous, p.UntilMS = r.Secret.Reveal(), toMillis(r.Until)
			continue
		}
		p.Older = append(p.Older, sealedOlder{r.Secret.Reveal(), toMillis(r.Until)})
	}
	b, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode secrets of app %s: %w", id, err)
	}
	sealed, err := s.opts.Keyring.Seal(b, secretAAD(id))
	if err != nil {
		return "", fmt.Errorf("seal secrets of app %s: %w", id, err)
	}
	return sealed, nil
}

// openSecrets never wraps the JSON decoder's error, which may quote the plaintext.
func (s *Store) openSecrets(id partner.ClientID, sealed string) (WebhookSecrets, error) {
	b, err := s.opts.Keyring.Open(sealed, secretAAD(id))
	if err != nil {
		return WebhookSecrets{}, fmt.Errorf("%w: secrets of app %s: %w", ErrUnreadable, id, err)
	}
	var p sealedSecrets
	if err := json.Unmarshal(b, &p); err != nil || p.Format != format || p.Current == "" {
		return WebhookSecrets{}, fmt.Errorf("%w: secrets of app %s are not of format %d", ErrUnreadable, id, format)
	}
	w := WebhookSecrets{Current: secret.New(p.Current)}
	if p.Previous != "" {
		w.Replaced = append(w.Replaced, ReplacedSecret{secret.New(p.Previous), fromMillis(p.UntilMS)})
	}
	for _, o := range p.Older {
		w.Replaced = append(w.Replaced, ReplacedSecret{secret.New(o.Secret), fromMillis(o.UntilMS)})
	}
	return w, nil
}
