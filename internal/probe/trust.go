package probe

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"strings"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/soap"
)

// minuteLayout is the UTC minute in a signed answer, written yyyyMMddHHmm in the documentation for partners.
const minuteLayout = "200601021504"

// checkTrust reads an answer to Authenticate: does the service trust the platform, and does it prove that it holds
// the app's key? Any of the keys is accepted, so that keys can overlap.
func checkTrust(m *soap.Answer, status int, nonce string, now time.Time, tolerance time.Duration, keys []*rsa.PublicKey) (r health.Reason, note string) {
	switch {
	case m.Fault != nil && status == http.StatusOK:
		return health.Fault, "with status 200, although SOAP 1.1 asks for 500"
	case m.Fault != nil:
		return health.Fault, ""
	case m.Name != xml.Name{Space: soap.MirroringNamespace, Local: "AuthenticateResponse"}:
		return health.UnexpectedAnswer, ""
	}
	switch m.Members["IsSuccessful"] {
	case "true", "1":
	case "false", "0":
		return health.NotSuccessful, ""
	default:
		return health.UnexpectedAnswer, "without IsSuccessful"
	}
	token := m.Members["SignedApplicationToken"]
	if token == "" {
		return health.NoToken, ""
	}
	return verifyToken(token, nonce, now, tolerance, keys)
}

// verifyToken checks NONCE.yyyyMMddHHmm.BASE64. The signature is RSA PKCS#1 v1.5 with SHA-256 over everything before
// it.
func verifyToken(token, nonce string, now time.Time, tolerance time.Duration, keys []*rsa.PublicKey) (health.Reason, string) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[0] == "" {
		return health.BadToken, ""
	}
	minute, err := time.ParseInLocation(minuteLayout, parts[1], time.UTC)
	if err != nil || len(parts[1]) != len(minuteLayout) {
		return health.BadToken, "the time is not one"
	}
	signature, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(signature) == 0 {
		return health.BadToken, "the signature is not base64"
	}
	if subtle.ConstantTimeCompare([]byte(parts[0]), []byte(nonce)) != 1 {
		return health.WrongNonce, ""
	}
	// the token has whole minutes, so it is behind by up to one
	switch late, early := now.Sub(minute.Add(time.Minute)), minute.Sub(now); {
	case late > tolerance:
		return health.StaleMinute, "it is behind by " + formatMinutes(late)
	case early > tolerance:
		return health.StaleMinute, "it is ahead by " + formatMinutes(early)
	}
	if len(keys) == 0 {
		return health.NoPublicKey, ""
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	for _, k := range keys {
		if rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], signature) == nil {
			return health.Healthy, ""
		}
	}
	return health.WrongKey, ""
}
