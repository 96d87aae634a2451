// Package partner holds partners' apps: their four endpoints, contacts, licences and keys, and
// the rules a valid one keeps. It is pure: whether an address may be dialled, and whether it
// answers, is decided elsewhere.
package partner
