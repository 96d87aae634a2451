package signing

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// tokenLife is how long a token is valid after it was made; receivers know
	// this length from the platform.
	tokenLife = 5 * time.Minute
	// tokenBackdate lets receivers' clocks be behind.
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
	// Nonce is set where the receiver must answer with it; see NewNonce.
	Nonce string
}

// payload spells the claims as receivers expect them.
type payload struct {
	Subject   string `json:"sub"`
	Context   string `json:"http://schemes.superoffice.net/identity/ctx"`
	Audience  string `json:"aud"`
	NotBefore int64  `json:"nbf"`
	IssuedAt  int64  `json:"iat"`
	Expires   int64  `json:"exp"`
	Issuer    string `json:"iss"`
	Nonce     string `json:"nonce,omitempty"`
}

// Token makes a signed JWT that is valid from a minute before now until five
// minutes after it. The token is a credential of a sort: it must not be logged.
func Token(key *Key, c Claims, now time.Time) (string, error) {
	if c.Tenant == "" || c.ClientID == "" || c.Issuer == "" {
		return "", errors.New("make token: tenant, client id and issuer are all needed")
	}
	body, err := json.Marshal(payload{
		Subject: c.Tenant, Context: c.Tenant, Audience: "spn:" + c.ClientID, Issuer: c.Issuer, Nonce: c.Nonce,
		NotBefore: now.Add(-tokenBackdate).Unix(), IssuedAt: now.Unix(), Expires: now.Add(tokenLife).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	encoding := base64.RawURLEncoding
	const room = 1 + 512 // the dot and a signature under a 3072-bit key
	token := make([]byte, 0, len(key.header)+encoding.EncodedLen(len(body))+room)
	token = append(token, key.header...)
	token = encoding.AppendEncode(token, body)
	signature, err := key.sign(token)
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
