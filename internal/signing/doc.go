// Package signing lets receivers verify who calls them. It makes JWTs under RSA or EC keys, whose public parts are
// published in a JWKS, and Standard Webhooks signatures under a secret shared with each app.
//
// A token is valid for six minutes, so each attempt gets a new one. One RS256 signature costs more than the rest of
// an attempt. So a Key prepares what it can when it is loaded.
//
// Rotation: every configured key is published. Per algorithm, the newest key whose certificate is valid signs. So
// receivers know a key whose certificate begins tomorrow before its first use.
// therefore known to receivers before its first use.
package signing
