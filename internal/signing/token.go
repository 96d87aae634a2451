package signing

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/plainjson"
)

const (
	// tokenLife is how long a token is valid after it was made; the platform has published this length to receivers.
	tokenLife = 5 * time.Minute
	// tokenBackdate allows for receivers whose clocks are slow.
	tokenBackdate = time.Minute
	// nonceBytes gives the 32 hex digits that receivers expect.
	nonceBytes = 16
)

// Claims are the variable contents of a token.
type Claims struct {
	// Tenant is the context identifier.
	Tenant string
	// ClientID names the app that the token is for.
	ClientID string
	// Issuer is a setting per use.
	Issuer string
	// Nonce is set if the receiver must answer with it; see NewNonce.
	Nonce string
}

// appendTo writes the claims in the format that receivers expect.
func (c *Claims) appendTo(b []byte, now time.Time) []byte {
	b = plainjson.AppendString(append(b, `{"sub":`...), c.Tenant)
	b = plainjson.AppendString(append(b, `,"http://schemes.superoffice.net/identity/ctx":`...), c.Tenant)
	b = plainjson.AppendString(append(b, `,"aud":`...), "spn:"+c.ClientID)
	b = strconv.AppendInt(append(b, `,"nbf":`...), now.Add(-tokenBackdate).Unix(), 10)
	b = strconv.AppendInt(append(b, `,"iat":`...), now.Unix(), 10)
	b = strconv.AppendInt(append(b, `,"exp":`...), now.Add(tokenLife).Unix(), 10)
	b = plainjson.AppendString(append(b, `,"iss":`...), c.Issuer)
	if c.Nonce != "" {
		b = plainjson.AppendString(append(b, `,"nonce":`...), c.Nonce)
	}
	return append(b, '}')
}

// SignToken makes a signed JWT that is valid from one minute before now until five minutes after it. A token is a
// credential: it must not be logged.
func SignToken(key *Key, c Claims, now time.Time) (string, error) {
	if c.Tenant == "" || c.ClientID == "" || c.Issuer == "" {
		return "", errors.New("make token: tenant, client id and issuer are all needed")
	}
	var room [512]byte
	body := c.appendTo(room[:0], now)
	encoding := base64.RawURLEncoding
	const signatureRoom = 1 + 512 // the dot and a signature under a 3072-bit key
	token := make([]byte, 0, len(key.header)+encoding.EncodedLen(len(body))+signatureRoom)
	token = append(token, key.header...)
	token = encoding.AppendEncode(token, body)
	signature, err := key.signInput(token)
	if err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	token = append(token, '.')
	return string(encoding.AppendEncode(token, signature)), nil
}

// NewNonce makes the nonce of a token that expects an answer: 32 upper-case hex
// digits.
func NewNonce(random io.Reader) (string, error) {
	raw := make([]byte, nonceBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", fmt.Errorf("make nonce: %w", err)
	}
	return strings.ToUpper(hex.EncodeToString(raw)), nil
}
