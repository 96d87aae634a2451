package mailer

import (
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

// minDKIMBits is the smallest RSA key that signs: receivers ignore smaller ones (RFC 8301).
const minDKIMBits = 1024

// Signer signs mails by DKIM (RFC 6376). It never prints its key.
type Signer struct {
	new func() *gomail.DKIMSigner
}

// String writes nothing of the key.
func (*Signer) String() string { return "DKIM signer" }

// wrapAfter is how many characters of the list of headers go-mail writes into one line of the signature.
const wrapAfter = 75

// signedHeaders are the headers that a reader sees, those that say how the body is read, and the two that RFC 8058
// requires to be signed. Each is listed once more than the mail has it, so that a further header of the same name breaks
// the signature (RFC 6376, section 8.15).
//
// go-mail wraps the list at places where it signed no space, but a verifier reads each wrap as a space. So the list has a
// space before each wrap: each part of it fills its line, and the next part begins with spaces. go-mail looks up a name
// as it is written, with the spaces. So only a name that has no header left to sign may begin with them.
func signedHeaders() []string {
	seen := []string{"From", "To", "Subject", "Date", "Message-ID", "Content-Type", "MIME-Version"}
	rest := []string{"Reply-To", "List-Unsubscribe", "List-Unsubscribe-Post", "Content-Transfer-Encoding"}
	var out []string
	at := len("h=")
	for i, part := range [][]string{seen, rest, seen, rest} {
		for j, name := range part {
			if j == 0 {
				name = strings.Repeat(" ", max(i*wrapAfter-at, 0)) + name
			}
			out = append(out, name)
			at += len(name) + len(":")
		}
	}
	return out
}

// NewSigner reads a private key (PEM, RSA or Ed25519) whose public key stands in the DNS under
// <selector>._domainkey.<domain>. Its errors never repeat the key.
func NewSigner(keyPEM []byte, selector, domain string) (*Signer, error) {
	key, err := gomail.PrivKeyFromPEM(keyPEM)
	if err != nil {
		return nil, errors.New("holds no private key in PEM that can sign: RSA or Ed25519 are needed")
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if bits := k.N.BitLen(); bits < minDKIMBits {
			return nil, fmt.Errorf("has %d bits; receivers ignore RSA keys of less than %d", bits, minDKIMBits)
		}
	case ed25519.PrivateKey:
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return nil, fmt.Errorf("the signing domain is no domain name: %w", err)
	}
	if _, err := idna.Lookup.ToASCII(selector); err != nil || selector == "" {
		return nil, errors.New("the selector must be a name such as lamplighter2026")
	}
	return &Signer{new: func() *gomail.DKIMSigner { return gomail.NewDKIMSigner(ascii, selector, key) }}, nil
}

// signMessage makes go-mail sign a message when it is written. The signature has the message's time, so that a repeat
// of the mail is identical. A nil Signer signs nothing.
func (s *Signer) signMessage(msg *gomail.Msg, at time.Time) {
	if s == nil {
		return
	}
	d := s.new()
	d.NowFunc = func() time.Time { return at }
	d.HeaderCanonicalization(gomail.CanonicalizationRelaxed)
	d.BodyCanonicalization(gomail.CanonicalizationRelaxed)
	d.SignHeaders(signedHeaders()...)
	msg.SetDKIM(d)
}
