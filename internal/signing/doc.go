// Package signing proves to receivers who calls them: with JWTs under RSA or EC
// keys, whose public parts a JWKS publishes, and with Standard Webhooks
// signatures under a secret that each app shares.
//
// A token lives six minutes, so it is made for the attempt, and one signature
// by RS256 costs more than the rest of a push: hence a Key prepares all it can
// when it is loaded.
//
// Rotation: every configured key is published; per algorithm the newest whose
// certificate is valid now signs. A key whose certificate begins tomorrow is
// therefore known to receivers before its first use.
package signing
