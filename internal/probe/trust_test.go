package probe_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lamplighter/lamplighter/internal/health"
	"github.com/lamplighter/lamplighter/internal/partner"
	"github.com/lamplighter/lamplighter/internal/soap"
)

// sign makes what stands behind the nonce and the minute.
func sign(t testing.TB, k *rsa.PrivateKey, text string, hash crypto.Hash) string {
	t.Helper()
	digest := sha256.Sum256([]byte(text))
	sum := digest[:]
	if hash != crypto.SHA256 {
		h := hash.New()
		_, _ = h.Write([]byte(text))
		sum = h.Sum(nil)
	}
	s, err := rsa.SignPKCS1v15(nil, k, hash, sum)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(s)
}

func newRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func response(members string) string {
	return envelope(`<AuthenticateResponse xmlns="` + soap.MirroringNamespace + `">` + members + `</AuthenticateResponse>`)
}

func signed(token string) string {
	return response("<IsSuccessful>true</IsSuccessful><SignedApplicationToken>" + token + "</SignedApplicationToken>")
}

func minute(d time.Duration) string { return time.Now().UTC().Add(d).Format("200601021504") }

func TestTrust(t *testing.T) {
	t.Parallel()
	own, other := newRSA(t), newRSA(t)
	token := func(nonce, minute string, k *rsa.PrivateKey) string {
		return nonce + "." + minute + "." + sign(t, k, nonce+"."+minute, crypto.SHA256)
	}
	now := minute(0)
	valid := token(nonceText, now, own)
	for name, tc := range map[string]struct {
		body   string
		reason health.Reason
	}{
		"Valid":            {signed(valid), health.Healthy},
		"Wrapped":          {signed("\n  " + valid[:300] + "\r\n" + valid[300:] + "\n"), health.Healthy},
		"OneAsTrue":        {strings.Replace(signed(valid), ">true<", ">1<", 1), health.Healthy},
		"FourMinutesLate":  {signed(token(nonceText, minute(-4*time.Minute), own)), health.Healthy},
		"FourMinutesEarly": {signed(token(nonceText, minute(4*time.Minute), own)), health.Healthy},
		"SevenLate":        {signed(token(nonceText, minute(-7*time.Minute), own)), health.StaleMinute},
		"SevenEarly":       {signed(token(nonceText, minute(7*time.Minute), own)), health.StaleMinute},
		"LastCentury":      {signed(token(nonceText, "190001010000", own)), health.StaleMinute},
		"OtherKey":         {signed(token(nonceText, now, other)), health.WrongKey},
		"OtherHash":        {signed(nonceText + "." + now + "." + sign(t, own, nonceText+"."+now, crypto.SHA1)), health.WrongKey},
		"OtherText":        {signed(nonceText + "." + now + "." + sign(t, own, nonceText, crypto.SHA256)), health.WrongKey},
		"ShortSignature":   {signed(nonceText + "." + now + ".QUJD"), health.WrongKey},
		"OtherNonce":       {signed(token(strings.Repeat("0", 32), now, own)), health.WrongNonce},
		"LowerCaseNonce":   {signed(token(strings.ToLower(nonceText), now, own)), health.WrongNonce},
		"NoSignature":      {signed(nonceText + "." + now + "."), health.BadToken},
		"TwoParts":         {signed(nonceText + "." + now), health.BadToken},
		"FourParts":        {signed(valid + ".x"), health.BadToken},
		"NoNonce":          {signed("." + now + ".QUJD"), health.BadToken},
		"SecondsToo":       {signed(token(nonceText, now+"00", own)), health.BadToken},
		"NoMinute":         {signed(token(nonceText, "202613459999", own)), health.BadToken},
		"URLBase64":        {signed(nonceText + "." + now + ".-_-_"), health.BadToken},
		"NoToken":          {response("<IsSuccessful>true</IsSuccessful>"), health.NoToken},
		"Unsuccessful":     {response("<IsSuccessful>false</IsSuccessful><ErrorMessage>hush</ErrorMessage>"), health.NotSuccessful},
		"Undecided":        {response("<SignedApplicationToken>" + valid + "</SignedApplicationToken>"), health.UnexpectedAnswer},
		"Maybe":            {response("<IsSuccessful>maybe</IsSuccessful>"), health.UnexpectedAnswer},
		"OtherNamespace":   {strings.Replace(signed(valid), soap.MirroringNamespace, "urn:x", 1), health.UnexpectedAnswer},
		"MemberElsewhere":  {response(`<IsSuccessful>true</IsSuccessful><x xmlns="urn:x"><SignedApplicationToken>` + valid + `</SignedApplicationToken></x>`), health.NoToken},
		"TokenTwice":       {response("<IsSuccessful>true</IsSuccessful><SignedApplicationToken/><SignedApplicationToken>" + valid + "</SignedApplicationToken>"), health.NotSOAP},
		"EmptyBody":        {envelope(""), health.UnexpectedAnswer},
		"Fault":            {envelope(fault), health.Fault},
	} {
		tg := target(partner.Mirroring, serving(t, http.StatusOK, tc.body))
		tg.Keys = []*rsa.PublicKey{&own.PublicKey}
		f := prober(5*time.Second, nil).Probe(t.Context(), tg)
		if f.Reason != tc.reason {
			t.Errorf("%s: %s (%s), want %s", name, f.Reason, f.Detail, tc.reason)
		}
		if strings.Contains(f.Detail, "hush") || strings.Contains(f.Detail+f.Excerpt, tokenText) {
			t.Errorf("%s shows too much: %s", name, f.Detail)
		}
	}
	tg := target(partner.Mirroring, serving(t, http.StatusOK, signed(valid)))
	want(t, prober(5*time.Second, nil).Probe(t.Context(), tg), health.NoPublicKey)
	tg.Keys = []*rsa.PublicKey{&other.PublicKey, &own.PublicKey}
	want(t, prober(5*time.Second, nil).Probe(t.Context(), tg), health.Healthy)
}
