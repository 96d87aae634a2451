package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	keyBytes      = 32 // AES-256
	keyIDLength   = 8  // hex digits of the key's SHA-256
	formatVersion = "v1"
	// overhead is GCM's 12-byte nonce and 16-byte tag.
	overhead = 12 + 16
)

var (
	// ErrUnknownKey reports a value sealed with a key that the Keyring lacks:
	// the key was replaced without being kept as an older one.
	ErrUnknownKey = errors.New("sealed with a key that is not configured")
	// ErrTampered reports a value that was not encrypted for this place: it was altered, truncated, or moved here.
	ErrTampered = errors.New("does not decrypt: it was altered or belongs elsewhere")
	// ErrMalformed reports a value that was never made by Seal.
	ErrMalformed = errors.New("not a sealed value")
)

// sealedText is strict so that one sealed value has one spelling only.
var sealedText = base64.RawURLEncoding.Strict()

// Key is one key for encryption at rest. It never prints; the zero Key is
// unusable. The cipher is in a function, which fmt shows as an address even in
// unexported fields, where it cannot call Format.
type Key struct {
	id   string
	aead func() cipher.AEAD
	// mac authenticates a message for a purpose with a key that is derived from this one.
	mac func(purpose string, message []byte) []byte
}

// ParseKey reads the setting encryption.key: 32 bytes in standard base64.
// Surrounding white space, as files have it, is ignored. Its errors tell how to
// make a proper key and never repeat the input.
func ParseKey(text string) (Key, error) {
	const remedy = "it must be 32 random bytes in base64, as printed by: openssl rand -base64 32"
	text = strings.TrimSpace(text)
	if text == "" {
		return Key{}, errors.New("encryption.key is empty: " + remedy)
	}
	if len(text) == hex.EncodedLen(keyBytes) {
		if _, err := hex.DecodeString(text); err == nil {
			return Key{}, errors.New("encryption.key looks like hexadecimal: " + remedy)
		}
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Key{}, errors.New("encryption.key is not standard base64: " + remedy)
	}
	if len(raw) != keyBytes {
		return Key{}, fmt.Errorf("encryption.key holds %d bytes instead of 32: %s", len(raw), remedy)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return Key{}, fmt.Errorf("prepare encryption.key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return Key{}, fmt.Errorf("prepare encryption.key: %w", err)
	}
	sum := sha256.Sum256(raw)
	mac := func(purpose string, message []byte) []byte {
		derived, err := hkdf.Expand(sha256.New, raw, "lamplighter mac "+purpose, sha256.Size)
		if err != nil { // only a length beyond 255 hashes fails
			panic("secret: derive key: " + err.Error())
		}
		h := hmac.New(sha256.New, derived)
		h.Write(message)
		return h.Sum(nil)
	}
	return Key{id: hex.EncodeToString(sum[:])[:keyIDLength], aead: func() cipher.AEAD { return aead }, mac: mac}, nil
}

// GenerateKey makes a value for encryption.key out of 32 bytes of random.
func GenerateKey(random io.Reader) (Text, error) {
	raw := make([]byte, keyBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return Text{}, fmt.Errorf("generate encryption key: %w", err)
	}
	return New(base64.StdEncoding.EncodeToString(raw)), nil
}

// ID names the key: the first 8 hex digits of its SHA-256. It may be shown.
func (k Key) ID() string { return k.id }

// Format writes Mask, whatever the verb.
func (Key) Format(f fmt.State, _ rune) { writeMask(f) }

// Keyring seals with its current key and opens with any of its keys. It is
// safe for concurrent use and never prints.
type Keyring struct {
	keys []Key // the current one first
}

// NewKeyring makes a Keyring that seals with current and still opens what older
// keys sealed. It panics on a zero Key, which no ParseKey returns.
func NewKeyring(current Key, older ...Key) *Keyring {
	keys := append([]Key{current}, older...)
	for _, k := range keys {
		if k.aead == nil {
			panic("secret.NewKeyring: zero Key")
		}
	}
	return &Keyring{keys: keys}
}

// Format writes Mask, whatever the verb.
func (*Keyring) Format(f fmt.State, _ rune) { writeMask(f) }

// Seal encrypts plaintext with AES-256-GCM under the current key and returns
// "v1.<key id>.<base64url(nonce|ciphertext)>". aad says where the value is
// stored, e.g. "app/app1/webhook_secret": Open demands the same, so that a
// value cannot be moved to another place. Two Seals of one value differ. The
// nonce comes from the cipher, not from a reader, because a repeated nonce
// would give the key away.
func (r *Keyring) Seal(plaintext []byte, aad string) (string, error) {
	k := r.keys[0]
	header := formatVersion + "." + k.id + "."
	sealed := k.aead().Seal(nil, nil, plaintext, []byte(header+aad))
	return header + sealedText.EncodeToString(sealed), nil
}

// Open decrypts what Seal made for the same aad, with the key that sealed it.
// Its errors are ErrMalformed, ErrUnknownKey or ErrTampered, wrapped; they name
// aad and the key id.
func (r *Keyring) Open(sealed, aad string) ([]byte, error) {
	header, id, body, err := splitSealed(sealed)
	if err != nil {
		return nil, fmt.Errorf("open secret %q: %w", aad, err)
	}
	known := false
	for _, k := range r.keys {
		if k.id != id {
			continue
		}
		known = true
		// Ids are 32 bits: another key may share it, so go on after a failure.
		plaintext, err := k.aead().Open(nil, nil, body, []byte(header+aad))
		if err == nil {
			return plaintext, nil
		}
	}
	if known {
		return nil, fmt.Errorf("open secret %q sealed with key %s: %w", aad, id, ErrTampered)
	}
	return nil, fmt.Errorf("open secret %q: %w: it names key %s; configure that key as an older one until the value is sealed anew",
		aad, ErrUnknownKey, id)
}

// macBytes is the used length of an HMAC: 128 bits cannot be guessed.
const macBytes = 16

// Sign makes a text that Verify turns back into message, only for the same purpose. The message is readable in it.
// The text has only URL-safe characters.
func (r *Keyring) Sign(purpose string, message []byte) string {
	return sealedText.EncodeToString(append(r.keys[0].mac(purpose, message)[:macBytes:macBytes], message...))
}

// Verify returns the message of a text that Sign made for the same purpose, under any of the keys. Errors:
// ErrMalformed, ErrTampered.
func (r *Keyring) Verify(purpose, text string) ([]byte, error) {
	b, err := sealedText.DecodeString(text)
	if err != nil || len(b) < macBytes {
		return nil, ErrMalformed
	}
	message := b[macBytes:]
	for _, k := range r.keys {
		if hmac.Equal(b[:macBytes], k.mac(purpose, message)[:macBytes]) {
			return message, nil
		}
	}
	return nil, ErrTampered
}

// Stale reports whether sealed must be sealed again because it was not sealed with the current key.
func (r *Keyring) Stale(sealed string) bool {
	_, id, _, err := splitSealed(sealed)
	return err != nil || id != r.keys[0].id
}

func splitSealed(sealed string) (header, id string, body []byte, err error) {
	version, rest, ok := strings.Cut(sealed, ".")
	if !ok {
		return "", "", nil, ErrMalformed
	}
	if version != formatVersion {
		return "", "", nil, fmt.Errorf("%w: its format version is not %s", ErrMalformed, formatVersion)
	}
	id, text, ok := strings.Cut(rest, ".")
	if _, err := hex.DecodeString(id); !ok || err != nil || len(id) != keyIDLength {
		return "", "", nil, fmt.Errorf("%w: no key id", ErrMalformed)
	}
	body, err = sealedText.DecodeString(text)
	if err != nil || len(body) < overhead {
		return "", "", nil, fmt.Errorf("%w: its body is damaged", ErrMalformed)
	}
	return version + "." + id + ".", id, body, nil
}
